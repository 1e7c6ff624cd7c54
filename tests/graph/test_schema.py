"""Schema: names and widths, compared and written down."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from skmmg.graph import Schema

STARS = ("movie", "stars", "actor")


@pytest.fixture
def schema() -> Schema:
    widths = {"director": {"bio": 3, "text": 4}, "movie": {"text": 5, "image": 8}, "actor": {}}
    return Schema(widths, (STARS,), target="movie")


def test_modalities_of_the_target_come_first(schema: Schema) -> None:
    assert schema.modalities == ("text", "image", "bio")


def test_modalities_without_a_target_are_in_order_of_appearance(schema: Schema) -> None:
    assert Schema(schema.node_types).modalities == ("bio", "text", "image")


def test_a_schema_survives_json(schema: Schema) -> None:
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert list(again.node_types) == list(schema.node_types)
    assert again.edge_types == (STARS,)


def test_a_schema_survives_pickling_and_copying(schema: Schema) -> None:
    assert pickle.loads(pickle.dumps(schema)) == schema
    assert copy.deepcopy(schema) == schema


def test_equal_schemas_have_equal_hashes(schema: Schema) -> None:
    shuffled = Schema(dict(reversed(schema.node_types.items())), (STARS,), "movie")
    assert shuffled == schema
    assert len({schema, shuffled}) == 1


def test_a_schema_cannot_be_changed(schema: Schema) -> None:
    with pytest.raises(TypeError):
        schema.node_types["movie"]["text"] = 6  # type: ignore[index]
    with pytest.raises(AttributeError):
        schema.target = "actor"  # type: ignore[misc]


def test_a_schema_does_not_follow_the_dict_it_was_made_of() -> None:
    widths = {"movie": {"text": 5}}
    schema = Schema(widths)
    widths["movie"]["text"] = 6
    assert schema.node_types["movie"]["text"] == 5


def test_the_same_schema_has_no_diff(schema: Schema) -> None:
    assert schema.diff(Schema.from_dict(schema.to_dict())) == []


def test_order_makes_no_diff() -> None:
    first = Schema({"a": {"x": 1, "y": 2}, "b": {}}, (("a", "r", "b"), ("b", "q", "a")))
    second = Schema({"b": {}, "a": {"y": 2, "x": 1}}, (("b", "q", "a"), ("a", "r", "b")))
    assert first.diff(second) == []


def test_a_diff_of_one_node_type_names_modalities_alone() -> None:
    fitted = Schema({"row": {"image": 8, "text": 5, "age": 1}})
    given = Schema({"row": {"text": 7, "age": 1, "sound": 2, "size": 1}})
    assert fitted.diff(given) == [
        "- image: 8 features",
        "~ text: 5 features -> 7 features",
        "+ sound: 2 features",
        "+ size: 1 feature",
    ]


def test_a_diff_of_several_node_types_names_the_type_too(schema: Schema) -> None:
    other = Schema({"director": {"text": 4}, "movie": {"text": 5, "image": 9}, "user": {}})
    assert schema.diff(other) == [
        "- director / bio: 3 features",
        "~ movie / image: 8 features -> 9 features",
        "- node type 'actor'",
        "+ node type 'user'",
        "- edge type ('movie', 'stars', 'actor')",
    ]


def test_a_diff_tells_of_new_edge_types() -> None:
    plain, with_edges = Schema({"row": {"x": 1}}), Schema({"row": {"x": 1}}, (("row", "r", "row"),))
    assert plain.diff(with_edges) == ["+ edge type ('row', 'r', 'row')"]


def test_a_diff_compares_targets_where_both_have_one(schema: Schema) -> None:
    other = Schema(schema.node_types, schema.edge_types, "actor")
    assert schema.diff(other) == ["~ node type in focus: movie -> actor"]
    assert schema.diff(Schema(schema.node_types, schema.edge_types)) == []


def test_names_that_are_no_node_types_are_errors() -> None:
    with pytest.raises(ValueError, match=r"must be one of its node types \['a'\], got 'b'"):
        Schema({"a": {}}, target="b")
    with pytest.raises(ValueError, match="got 'c'"):
        Schema({"a": {}}, (("a", "r", "c"),))
