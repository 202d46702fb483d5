"""Pictures made ready ahead of use."""

import threading

import pytest

from frostbox.sources import one_ahead


def test_the_next_item_is_made_while_the_caller_is_busy():
    begun = [threading.Event() for _ in range(3)]

    def items():
        for k, event in enumerate(begun):
            event.set()
            yield k

    seen = []
    for k in one_ahead(items()):
        if k + 1 < len(begun):
            assert begun[k + 1].wait(30)
        assert not any(event.is_set() for event in begun[k + 2 :])
        seen.append(k)
    assert seen == [0, 1, 2]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield "good"
        raise ValueError("bad")

    ahead = one_ahead(items())
    assert next(ahead) == "good"
    with pytest.raises(ValueError, match="bad"):
        next(ahead)


def test_a_caller_may_stop_early():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    source = items()
    ahead = one_ahead(source)
    next(ahead)
    ahead.close()
    source.close()
    assert closed.is_set()
