"""Machines of a cluster on this one: each has a network address, a host name, processes, a user
and folders of its own, and sees no file of the others. Linux's namespaces make them, which need
root. All of a machine ends with the test process, however that ends."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from command_line import eventually

SUBNET = "10.213.7."
HERE = f"{SUBNET}1"
"""This machine's address in the network, where its own servers listen for the others."""
FIRST_UID = 20_001
TMP = "/tmp"
STATE_DIR = Path(TMP) / "state"
"""A machine's state directory, as it sees it."""
VISIBLE = tuple(
    dict.fromkeys(
        str(Path(p).resolve()) for p in (sys.prefix, sys.base_prefix, Path(__file__).parents[1])
    )
)
"""What each machine has of this one beside the system's folders: Python, and driftloop."""
# The machine ends with its first process, whose standard input we hold.
INIT = """
set -e
hostname "$1"
for hidden in /tmp "$HOME"; do
    own="$2$hidden"
    mkdir -p "$own"
    chmod 755 "$own"
    for path in $3; do
        case "$path" in
            "$hidden"/*)
                mkdir -p "$own/${path#"$hidden"}"
                mount --bind "$path" "$own/${path#"$hidden"}";;
        esac
    done
done
chown -R --from=root "$4:$4" "$2/tmp" 2> /dev/null || true
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount --rbind "$2$HOME" "$HOME"
mount --rbind "$2/tmp" /tmp
ip link set lo up
echo ready
read -r _
"""


def can_make_machines() -> bool:
    programs = ("ip", "unshare", "nsenter", "mount")
    return os.geteuid() == 0 and all(shutil.which(program) for program in programs)


@dataclass
class Machine:
    """`network`: makes them. environ: the variables of its processes."""

    name: str
    address: str
    uid: int
    root: Path
    init: "subprocess.Popen[str]"
    environ: Mapping[str, str]
    running: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @cached_property
    def pid(self) -> int:
        """Of its first process: `unshare` waits for it."""
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children")
        return int(eventually(children.read_text, str.strip).split()[0])

    @property
    def state_dir(self) -> Path:
        """Its state directory, as this machine sees it."""
        return self.root / "tmp" / STATE_DIR.name

    def argv(self, words: Sequence[str], *, user: bool = True) -> list[str]:
        """The command line that runs there."""
        who = ("-S", str(self.uid), "-G", str(self.uid)) if user else ()
        return ["nsenter", "-t", str(self.pid), "--all", *who, *words]

    def driftloop(self, *words: str) -> list[str]:
        return self.argv([sys.executable, "-m", "driftloop_cli", *words])

    def start(self, log: str, argv: Sequence[str]) -> None:
        """Start a process that stays."""
        with (self.root / f"{log}.log").open("ab") as sink:
            self.running.append(
                subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=self.environ
                )
            )

    def put(self, name: str, content: bytes) -> str:
        """A file in its /tmp; returns its path there."""
        path = self.root / "tmp" / name
        path.write_bytes(content)
        os.chown(path, self.uid, self.uid)
        return f"{TMP}/{name}"

    def kill(self) -> None:
        """All of it at once, its network too; its folders are lost with it."""
        os.kill(self.pid, signal.SIGKILL)
        self.init.wait()
        for process in self.running:
            process.wait()


class Network:
    """A switch, to which machines are connected. Make it with `network`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machines: dict[str, Machine] = {}
        self._number = 1
        self._link = f"dl{os.getpid()}"
        # In a network of its own, with which it goes.
        self._switch = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; read -r _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._switch.stdout is not None
        self._switch.stdout.readline()
        self._in_switch("ip link add switch0 type bridge", "ip link set switch0 up")
        _run(f"ip link add {self._link} type veth peer name up0 netns {self._switch.pid}")
        self._in_switch("ip link set up0 master switch0 up")
        _run(f"ip address add {HERE}/24 dev {self._link}")
        _run(f"ip link set {self._link} up")

    def machine(self, name: str, environ: Mapping[str, str]) -> Machine:
        """A new one, or one in place of a killed one of this name, with an empty disk."""
        self._number += 1
        number, folder = self._number, self.root / f"{name}-{self._number}"
        address, uid = f"{SUBNET}{number}", FIRST_UID + number
        (folder / "tmp" / STATE_DIR.name).mkdir(parents=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        for path in (folder / "tmp", folder / "tmp" / STATE_DIR.name):
            os.chown(path, uid, uid)
        init = subprocess.Popen(
            [
                "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                "--mount-proc", "sh", "-c", INIT, "sh",
                name, str(folder), " ".join(VISIBLE), str(uid),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert init.stdout is not None
        assert init.stdout.readline() == "ready\n", f"the machine {name} was not made"
        own = {"DRIFTLOOP_STATE_DIR": str(STATE_DIR), "HOME": TMP, "TMPDIR": TMP}
        made = Machine(name, address, uid, folder, init, {**environ, **own})
        self._in_switch(
            f"ip link add m{number} type veth peer name eth0 netns {made.pid}",
            f"ip link set m{number} master switch0 up",
        )
        for words in (f"ip address add {address}/24 dev eth0", "ip link set eth0 up"):
            _run(shlex.join(made.argv(shlex.split(words), user=False)))
        self.machines[name] = made
        return made

    def close(self) -> None:
        for machine in self.machines.values():
            if machine.init.poll() is None:
                machine.kill()
        self._switch.kill()
        self._switch.wait()

    def _in_switch(self, *commands: str) -> None:
        for command in commands:
            _run(f"nsenter -t {self._switch.pid} --net {command}")


def _run(command: str) -> None:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@contextmanager
def network() -> Iterator[Network]:
    with tempfile.TemporaryDirectory(prefix="machines-", ignore_cleanup_errors=True) as root:
        made = Network(Path(root))
        try:
            yield made
        finally:
            made.close()
