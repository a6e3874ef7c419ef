import io
import subprocess
import sys

from driftloop_retrain.job.last_words import LINES, LastWords


def test_a_childs_last_lines_are_kept_and_all_are_passed_on() -> None:
    code = "import sys; [print(n, file=sys.stderr) for n in range(50)]; raise SystemExit('no GPU')"
    sink = io.BytesIO()
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert child.stderr is not None
    words = LastWords(child.stderr, sink)
    child.wait()
    kept = words.text().splitlines()
    assert kept[-1] == "no GPU"
    assert len(kept) == LINES
    assert len(sink.getvalue().splitlines()) == 51
