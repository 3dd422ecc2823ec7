"""What a command spends its time on: rows that add up, counts, lines where nobody sees a bar."""

import json
import multiprocessing
import threading
import time

import pytest

from gengram import phases, progress
from gengram.command_line import Answer, VerbParser, run
from gengram.phases import REST, START, phase, read_peak_bytes, recording, tabulate_phases, timed


@pytest.fixture
def parser():
    made = VerbParser("try", usage="", description="", example="gengram try")
    made.add_common()
    return made


def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_phases_add_up_to_the_whole_and_count():
    begun, cpu = time.perf_counter(), time.process_time()
    with recording() as recorded:
        spin(0.02)
        for _ in range(3):
            with phase("Reading", unit="rows") as one:
                spin(0.02)
                one.add(10)
            with phase("Working"):
                time.sleep(0.02)
        told = recorded.list_phases()
        whole, used = time.perf_counter() - begun, time.process_time() - cpu
    assert [one.name for one in told] == [START, "Reading", "Working", REST]
    assert sum(one.seconds for one in told) == pytest.approx(whole, abs=0.02)
    assert sum(one.cpu_seconds for one in told) == pytest.approx(used, abs=0.02)
    start, reading, working, _ = told
    assert start.seconds >= 0.02 and reading.seconds >= 0.06 and working.seconds >= 0.06
    assert working.cpu_seconds < 0.03
    assert (reading.count, reading.unit) == (30, "rows")
    described = reading.describe()
    assert described["per_second"] == pytest.approx(30 / reading.seconds, rel=0.01)
    assert (working.describe()["count"], working.describe()["unit"], working.describe()["per_second"]) == (None,) * 3


def test_an_inner_phase_takes_its_time_from_the_outer():
    with recording() as recorded:
        with phase("Outer"):
            spin(0.01)
            with phase("Inner"):
                spin(0.05)
                with phase("Inner"):  # again inside itself
                    spin(0.01)
        outer, inner = recorded.list_phases()[1:3]
    assert outer.cpu_seconds < 0.05 and inner.seconds >= 0.06


def test_only_what_makes_the_items_is_timed():
    def read():
        for block in ([1, 2], [3]):
            spin(0.01)
            yield block

    with recording() as recorded:
        got = []
        for block in timed(read(), "Reading", "rows", len):
            time.sleep(0.05)
            got += block
        reading = recorded.list_phases()[1]
    assert got == [1, 2, 3] and reading.count == 3
    assert reading.seconds >= 0.02 and reading.cpu_seconds < 0.1


def test_a_generator_that_is_left_open_breaks_nothing():
    def read():
        with phase("Reading"):
            yield 1

    with recording() as recorded:
        reader = read()
        with phase("Around"):
            next(reader)
        with phase("After"):
            reader.close()
        assert [one.name for one in recorded.list_phases()] == [START, "Around", "Reading", "After", REST]


def test_an_error_ends_a_phase_and_goes_on():
    with recording() as recorded:
        with pytest.raises(ValueError, match="this"), phase("Failing"):
            raise ValueError("this")
        with phase("Next"):
            pass
        assert [one.name for one in recorded.list_phases()] == [START, "Failing", "Next", REST]


def test_outside_of_a_command_nothing_is_recorded():
    with phase("Alone", unit="rows") as one:
        one.add(3)
    assert one.count == 3
    with recording() as recorded:
        assert recorded.list_phases() == []


def test_another_thread_does_not_touch_the_phases():
    def work():
        with phase("Elsewhere"):
            pass

    with recording() as recorded, phase("Here"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert [one.name for one in recorded.list_phases()] == [START, "Here", REST]


def _work_in_a_process(queue):
    with phase("Elsewhere", unit="rows") as one:
        one.add()
    queue.put(one.count)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_does_not_touch_the_phases(capfd):
    context = multiprocessing.get_context("fork")
    with recording() as recorded, phase("Here"):
        queue = context.SimpleQueue()
        process = context.Process(target=_work_in_a_process, args=(queue,))
        process.start()
        process.join()
        assert queue.get() == 1 and process.exitcode == 0
        assert [one.name for one in recorded.list_phases()] == [START, "Here", REST]
    assert capfd.readouterr().err == ""


def test_a_recording_inside_another_is_that_one():
    with recording() as outer, recording() as inner:
        assert inner is outer


def test_the_peak_is_that_of_the_process():
    before = read_peak_bytes()
    if before is None:
        pytest.skip("this system does not tell the peak of memory")
    block = bytearray(before)  # more than there has ever been, with what was there
    block[::4096] = bytes(len(block[::4096])).replace(b"\0", b"\1")
    assert read_peak_bytes() > before
    assert before > 10e6


def test_a_phase_costs_microseconds():
    with recording():
        begun = time.process_time()
        for _ in range(1000):
            with phase("Small"):
                pass
        assert time.process_time() - begun < 1  # 0.05 here


def test_a_command_tells_its_phases(parser, capsys, monkeypatch):
    monkeypatch.setattr(phases, "_WORTH_A_TABLE", 0.0)

    def work() -> Answer:
        with phase("Tokenising", unit="rows") as one:
            spin(0.02)
            one.add(1_000_000)
        return Answer("done", {"out": "here"})

    assert run(parser, parser.parse([]), work) == 0
    said = capsys.readouterr()
    assert said.out == "done\n"
    lines = said.err.splitlines()
    assert lines[0].split()[:2] == ["phase", "seconds"] and "1,000,000 rows" in lines[2]
    assert [line.split("  ")[0] for line in lines[1:]] == [START, "Tokenising", REST, "All"]
    assert run(parser, parser.parse(["--json"]), work) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == "here" and [one["name"] for one in told["phases"]] == [START, "Tokenising", REST]
    assert set(told["phases"][1]) == {
        "name", "seconds", "cpu_seconds", "count", "unit", "per_second", "peak_bytes"
    }  # fmt: skip
    assert run(parser, parser.parse(["--quiet"]), work) == 0
    assert capsys.readouterr().err == ""


def test_a_short_command_has_no_table_and_one_that_fails_neither(parser, capsys):
    def work() -> Answer:
        with phase("Reading"):
            pass
        return Answer("done", {})

    assert run(parser, parser.parse([]), work) == 0
    assert capsys.readouterr().err == ""

    def fail() -> Answer:
        with phase("Reading"):
            raise OSError("the disk is full")

    assert run(parser, parser.parse([]), fail) == 1
    assert capsys.readouterr().err == "gengram try: error: the disk is full\n"


def test_one_of_several_processes_has_the_table(parser, capsys, monkeypatch):
    monkeypatch.setattr(phases, "_WORTH_A_TABLE", 0.0)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def work() -> Answer:
        with phase("Reading"):
            return Answer("done", {})

    assert run(parser, parser.parse([]), work) == 0
    assert capsys.readouterr().err == ""


def test_a_long_phase_has_a_line_at_its_end_once_a_minute(capsys, monkeypatch):
    with recording():
        with phase("Short"):
            pass
        monkeypatch.setattr(phases, "LONG", 0.02)
        for _ in range(2):
            with phase("Tokenising", unit="rows") as one:
                spin(0.03)
                one.add(1000)
    assert capsys.readouterr().err.startswith("Tokenising: 1,000 rows, 0.")


def test_where_somebody_has_seen_a_bar_there_is_no_line(capsys, monkeypatch):
    monkeypatch.setattr(phases, "LONG", 0.02)
    monkeypatch.setattr(phases, "is_watched", lambda: True)
    with recording(), phase("Tokenising", unit="rows", total=1) as one:
        spin(0.03)
        one.add(1)
    assert "Tokenising: 1 rows," not in capsys.readouterr().err


def test_long_imports_have_a_line(capsys, monkeypatch):
    monkeypatch.setattr(phases, "LONG", 0.02)
    with recording():
        spin(0.03)
        with phase("Short"):
            pass
    assert capsys.readouterr().err.startswith(f"{START}: 0.")


def test_silence_is_broken_after_a_minute(capsys, monkeypatch):
    with recording() as recorded, phase("Fitting", unit="rows") as one:
        one.add(1200)
        recorded.tell_of_silence()
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(phases, "MINUTE", 0.01)
        spin(0.02)
        recorded.tell_of_silence()
        assert capsys.readouterr().err.startswith("Fitting: 1,200 rows, ")


def test_a_bar_that_another_thread_makes_just_now_is_no_error(monkeypatch):
    class Half:  # tqdm counts it before it has any attribute
        pass

    monkeypatch.setattr(progress._tqdm, "_instances", [Half()], raising=False)
    assert not progress.has_bar()
    with recording() as recorded, phase("Fitting"):
        recorded.tell_of_silence()


def test_on_a_terminal_it_is_broken_after_seconds_and_once(capsys, monkeypatch):
    monkeypatch.setattr(phases, "is_watched", lambda: True)
    with recording() as recorded, phase("Fitting"):
        monkeypatch.setattr(phases, "LONG", 0.01)
        spin(0.02)
        recorded.tell_of_silence()
        assert capsys.readouterr().err == "Fitting ...\n"
        spin(0.02)
        recorded.tell_of_silence()
        assert capsys.readouterr().err == ""
        monkeypatch.undo()


def test_names_are_shown_in_one_line():
    assert tabulate_phases([]) == ""
    one = phases.Phase("a\nb", "rows")
    one.seconds, one.count = 2.0, 7
    table = tabulate_phases([one])
    assert "a\\nb" in table and "7 rows" in table and "3.50" in table
