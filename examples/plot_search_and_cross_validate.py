"""
Cross-validate and search
=========================

Every tool of scikit-learn that selects samples takes the nodes of a network: a cross-validation, a
grid search, and Optuna's search. A view of the nodes is the ``X``, and a slice of it is the same
network seen from fewer nodes.
"""

# %%
# A network
# ---------
# 100 items, each with a text and an image, and each linked to three attributes that look like its
# class. Only one of the two modalities tells the class of an item, and it is not the same one for
# all items. No classifier can be right more often than ``bayes_accuracy``.

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph

planted = make_multimodal_graph(
    100, modalities=["text", "image"], informative="per_node", signal=3.0, random_state=0
)
X, y = planted.graph.nodes("item"), planted.target
print(X)
print(f"upper bound of the accuracy: {planted.bayes_accuracy:.2f}")

# %%
# A cross-validation
# ------------------
# Parameters of the model are parameters of the classifier, with ``model__`` before them. The folds
# are a transductive evaluation: features of the test items take part in training, their labels do
# not. ``setting="inductive"`` leaves the test items out altogether.

from sklearn.model_selection import StratifiedKFold, cross_validate

clf = MultiModalGraphClassifier(
    "hgnn_ima", lr=0.02, max_epochs=20, early_stopping=False, random_state=0
).set_params(model__hidden_channels=16, model__heads=2)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
scores = cross_validate(clf, X, y, cv=folds, scoring=["f1_micro", "f1_macro"])
for name in ["test_f1_micro", "test_f1_macro"]:
    print(f"{name}: {scores[name].mean():.3f} ± {scores[name].std():.3f}")

# %%
# A grid search
# -------------
# Over the depth of the model and the learning rate, in two processes. The network travels to them
# once, as memory-mapped arrays if it is large.

import pandas as pd
from sklearn.model_selection import GridSearchCV

grid = {"model__num_layers": [0, 1, 2], "lr": [0.005, 0.02]}
search = GridSearchCV(clf, grid, cv=folds, scoring="f1_macro", n_jobs=2).fit(X, y)
results = pd.DataFrame(search.cv_results_)
results.pivot_table("mean_test_score", "param_model__num_layers", "param_lr").round(3)

# %%
# Without a layer the model sees an item's own features only. The best of the grid is refitted on
# all items, and what was found predicts:

print(search.best_params_)
search.predict(X[:5])

# %%
# Optuna
# ------
# ``OptunaSearchCV`` is an estimator too. It draws from distributions, and learns from one trial
# where to look in the next.

import warnings

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna_integration import OptunaSearchCV

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", "`optuna.terminator`", FutureWarning)
space = {
    "model__cross_modal": CategoricalDistribution(["adaptive", "mean", "none"]),
    "model__dropout": FloatDistribution(0.0, 0.6),
    "lr": FloatDistribution(1e-3, 3e-2, log=True),
}
search = OptunaSearchCV(
    clf, space, cv=folds, n_trials=3, scoring="f1_macro", random_state=0, verbose=0
).fit(X, y)
print(f"{search.best_score_:.3f}")
search.best_params_
