import io

from model_artifacts.training.progress import bar, duration, say, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def clock(step):
    now = [0.0]

    def now_s():
        now[0] += step
        return now[0]

    return now_s


def test_progress_on_a_terminal_redraws_one_line_and_ends_it():
    out = Terminal()
    assert list(track("abcd", "fold", out, clock(10))) == list("abcd")
    drawn = out.getvalue().split("\r")[1:]
    assert len(drawn) == 4
    assert drawn[0].startswith("fold [######------------------] 1/4  10 s, 30 s left")
    assert "4/4  40 s" in drawn[3]
    assert "left" not in drawn[3]
    assert out.getvalue().count("\n") == 1


def test_progress_without_a_terminal_is_a_plain_line_now_and_then_and_at_the_end():
    out = io.StringIO()
    list(track(range(100), "row", out, clock(1)))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4  # every 30 s, and the last
    assert "\r" not in out.getvalue()
    assert "100/100" in lines[-1]
    assert all(line == line.rstrip() for line in lines)


def test_progress_durations_and_bars_read_as_a_person_would_say_them():
    assert [duration(s) for s in (0.4, 59.4, 185, 3725)] == ["0 s", "59 s", "3 min 05 s", "1 h 02 min"]
    assert len(bar("x", 1, 3, 5)) >= 79  # covers what was there before


def test_progress_say_is_one_line_with_the_time():
    out = io.StringIO()
    say("released model", out)
    assert out.getvalue()[2] == ":"
    assert out.getvalue().endswith(" released model\n")
