"""
Missing modalities
==================

A node may lack a modality: a film without a poster, a person without a text. This example shows how
to say so, and what the four policies of ``missing=`` make of it.
"""

# %%
# How missing rows are given
# --------------------------
# In a dense matrix a row of NaN is missing. A sparse matrix has no room for NaN, so a mask says
# which nodes have the modality: a row without any word may be an empty text, or no text at all. A
# node type that has no matrix for a modality lacks it altogether.

import numpy as np
from scipy import sparse

from skmmg import MultiModalGraph

poster = np.random.default_rng(0).normal(size=(4, 3))
poster[2] = np.nan
keywords = sparse.csr_array([[1, 0], [0, 2], [0, 0], [0, 0]])
graph = MultiModalGraph(
    nodes={"film": {"keywords": keywords, "poster": poster}, "person": {"poster": poster[:2]}},
    edges={("film", "stars", "person"): [[0, 1, 2, 3], [0, 0, 1, 1]]},
    masks={"film": {"keywords": [True, True, True, False]}},
)
print("has keywords:", graph.present("film", "keywords"))
print("has a poster:", graph.present("film", "poster"))
graph.describe()

# %%
# What a model does about it
# --------------------------
# ``missing=`` of the estimators is for models of every kind:
#
# - ``"copy"``: the state of the node's first modality takes the place of the one that it lacks;
# - ``"zero"``: zeros do;
# - ``"mean_neighbors"``: the mean state of its neighbours that have the modality does;
# - ``"learned"``: a vector does that is learned for each node type and modality.
#
# On planted networks in which one of the two modalities tells the class of an item, and another one
# for each item, more and more rows are removed. The same seed keeps everything else as it is. An
# item that loses the modality that tells its class is left to its neighbours.

import pandas as pd
from matplotlib import pyplot as plt
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph

POLICIES = ["copy", "zero", "mean_neighbors", "learned"]
SHARES = [0.0, 0.3, 0.6]
folds = StratifiedKFold(3, shuffle=True, random_state=0)
accuracy = pd.DataFrame(index=SHARES, columns=[*POLICIES, "upper bound"], dtype=float)
for share in SHARES:
    planted = make_multimodal_graph(
        300, informative="per_node", signal=3.0, missing=share, random_state=0
    )
    accuracy.loc[share, "upper bound"] = planted.bayes_accuracy
    for policy in POLICIES:
        clf = MultiModalGraphClassifier(
            "hgnn_ima", missing=policy, lr=0.01, max_epochs=20, early_stopping=False, random_state=0
        ).set_params(model__hidden_channels=16, model__heads=2)
        X, y = planted.graph.nodes("item"), planted.target
        accuracy.loc[share, policy] = cross_val_score(clf, X, y, cv=folds).mean()
accuracy.round(3)

# %%
# Three folds of a small network: differences of a few hundredths mean nothing here.

ax = accuracy[POLICIES].plot(marker="o", figsize=(6, 3.5))
accuracy["upper bound"].plot(ax=ax, color="black", linestyle="--")
ax.set(xlabel="share of missing rows, each modality", ylabel="accuracy", xticks=SHARES)
ax.legend()
plt.tight_layout()
plt.show()

# %%
# Missing at predict
# ------------------
# The items of another network may all lack a modality, as long as the network says so by a mask. A
# matrix that is simply not there is taken for a mistake, and the error says which one it is.

clf.fit(X, y)
nodes = {node_type: dict(matrices) for node_type, matrices in planted.graph.x.items()}
has = {("item", "has", "attribute_0"): planted.graph.edge_index["item", "has", "attribute_0"]}
nobody = np.zeros(len(y), dtype=bool)
masked = MultiModalGraph(nodes, has, masks={"item": {"modality_1": nobody}})
print(f"accuracy without modality_1: {clf.score(masked.nodes('item'), y):.3f}")

del nodes["item"]["modality_1"]
try:
    clf.predict(MultiModalGraph(nodes, has).nodes("item"))
except ValueError as error:
    print(error)
