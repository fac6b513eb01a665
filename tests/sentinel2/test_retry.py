"""Retries of requests: which errors, how often, after which waits."""

import pytest

from jointseg.sentinel2 import retry
from jointseg.sentinel2.retry import RequestError, call_with_retries


@pytest.fixture
def waits(monkeypatch):
    """Waits in seconds between the tries, without sleeping."""
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    return waits


def failing(*errors):
    """Return a request that raises the errors in turn and then returns 'response', and the list of its calls."""
    remaining, calls = list(errors), []

    def request():
        calls.append(len(calls) + 1)
        if remaining:
            raise remaining.pop(0)
        return "response"

    return request, calls


def test_transient_errors_are_retried_until_a_response(waits, caplog):
    request, calls = failing(RequestError("busy", 503), RequestError("broken connection"), RequestError("quota", 429))
    assert call_with_retries(request, "the scenes") == "response"
    assert len(calls) == 4 and len(waits) == 3
    assert "the scenes: busy; retrying in" in caplog.text


def test_waits_double_with_jitter_up_to_the_maximum(waits):
    request, calls = failing(*[RequestError("busy", 500)] * 20)
    with pytest.raises(RequestError, match="busy"):
        call_with_retries(request, "the scenes")
    assert len(calls) == retry.MAX_TRIES and len(waits) == retry.MAX_TRIES - 1
    for number, wait in enumerate(waits):
        longest = min(retry.MAX_WAIT_S, retry.FIRST_WAIT_S * 2**number)
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize("error", [RequestError("refused", 403), RequestError("missing", 404), ValueError("a defect")])
def test_other_errors_are_raised_at_once(waits, error):
    request, calls = failing(error)
    with pytest.raises(type(error), match=str(error)):
        call_with_retries(request, "the scenes")
    assert calls == [1] and waits == []


def test_messages_are_one_line_of_limited_length():
    assert str(RequestError("first\n  second.")) == "first second"
    assert len(str(RequestError("x" * 10_000))) == retry.MAX_MESSAGE_CHARS
