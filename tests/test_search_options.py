"""`SearchOptions` and the signature of `Collection.search` name the same options."""

from __future__ import annotations

import inspect

from retr import Collection
from retr.retrieval.search.options import SearchOptions

POSITIONAL = ["self", "query", "k"]
NOT_SHARED = ["vector"]
"""Named by the overload for one query itself: a list of queries takes no `vector`."""


def _parameters() -> dict[str, inspect.Parameter]:
    # `overload` leaves the implementation as the method, and its signature is the one of calls.
    return dict(inspect.signature(Collection.search).parameters)


def test_every_option_is_a_parameter_of_search_and_the_other_way_round() -> None:
    parameters = _parameters()
    assert list(parameters)[: len(POSITIONAL)] == POSITIONAL
    options = [name for name in parameters if name not in (*POSITIONAL, *NOT_SHARED)]
    assert options == list(SearchOptions.__annotations__)


def test_every_option_is_keyword_only_and_optional() -> None:
    parameters = _parameters()
    for name in (*NOT_SHARED, *SearchOptions.__annotations__):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert parameters[name].default is not inspect.Parameter.empty, name
    assert SearchOptions.__required_keys__ == frozenset()


def test_every_option_has_the_type_that_search_takes() -> None:
    parameters = _parameters()
    for name, reference in SearchOptions.__annotations__.items():
        # Both files postpone their annotations, so each is the text in the source.
        assert reference.__forward_arg__ == parameters[name].annotation, name
