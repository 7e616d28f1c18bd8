"""Bars appear when work lasts and somebody looks, and at no other time."""

import io
from types import SimpleNamespace

import pytest

from torch_pruning import progress as module
from torch_pruning.progress import progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def see(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error for the module alone: pytest puts its own back between a fixture and the test."""
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error, on which all work counts as lasting."""
    screen = Terminal()
    see(screen, monkeypatch)
    monkeypatch.setattr(module, "_PATIENCE", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv(module.SWITCH, raising=False)
    return screen


def test_items_come_through(terminal: Terminal) -> None:
    assert list(track(iter("abc"), "Reading")) == ["a", "b", "c"]


def test_long_work_shows_what_it_is_and_how_far(terminal: Terminal) -> None:
    for _ in track(range(3), "Reading"):
        pass
    assert "Reading" in terminal.getvalue()
    assert "/3" in terminal.getvalue()


def test_short_work_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 60.0)
    assert sum(track(range(3), "Reading")) == 3
    assert terminal.getvalue() == ""


def test_work_becomes_long_with_time(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "_PATIENCE", 1.5)
    with progress("Reading", total=3) as bar:
        now[0] = 1.4
        bar.advance()
        assert bar.display is None
        now[0] = 1.6
        bar.advance()
        assert bar.display is not None


@pytest.mark.parametrize("value", ["0", "off", "No", " FALSE "])
def test_switched_off(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(module.SWITCH, value)
    assert sum(track(range(3), "Reading")) == 3
    assert terminal.getvalue() == ""


def test_no_terminal_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    see(file, monkeypatch)
    assert sum(track(range(3), "Reading")) == 3
    assert file.getvalue() == ""


def test_no_standard_error(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    see(None, monkeypatch)
    assert sum(track(range(3), "Reading")) == 3


def test_work_within_work_shares_one_display(terminal: Terminal) -> None:
    with progress("Outer", total=2) as outer:
        outer.advance()
        with progress("Inner", total=2) as inner:
            inner.advance()
            assert inner.display is outer.display
            assert [task.description for task in outer.display.tasks] == ["Outer", "Inner"]
        assert [task.description for task in outer.display.tasks] == ["Outer"]
        assert outer.display.live.is_started
    assert not outer.display.live.is_started


def test_display_goes_when_the_work_fails(terminal: Terminal) -> None:
    bars = []

    def fail() -> None:
        with progress("Dividing") as bar:
            bar.advance()
            bars.append(bar.display)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (display,) = bars
    assert not display.live.is_started


def test_display_goes_when_nobody_wants_more(terminal: Terminal) -> None:
    source = track(range(3), "Reading")
    assert [next(source), next(source)] == [0, 1]
    source.close()
    before = terminal.getvalue()
    assert "Reading" in before
    assert before.endswith("\x1b[2K")  # the line is wiped


def test_bar_within_a_loop_over_a_bar_is_harmless(terminal: Terminal) -> None:
    assert [sum(track(range(n), "Inner")) for n in track([2, 3], "Outer")] == [1, 3]
