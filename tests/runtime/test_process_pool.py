"""Worker processes exit with a killed parent."""

import signal
import subprocess
import sys
import time

CODE = """
import time
from jointseg.runtime.process_pool import spawn_pool

if __name__ == "__main__":
    with spawn_pool(2) as workers:
        print(*workers.map(abs, [1, 2]), flush=True)
        print(*workers._processes, flush=True)
        time.sleep(60)
"""


def test_workers_exit_when_the_parent_is_killed(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(CODE)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline().split() == ["1", "2"]
        workers = [int(pid) for pid in job.stdout.readline().split()]
        assert len(workers) == 2 and all(alive(pid) for pid in workers)
        job.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers still run after their parent was killed"
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
