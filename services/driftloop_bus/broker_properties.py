"""The configuration of the single-node broker: `server.properties` and the Java command line."""

from dataclasses import dataclass
from pathlib import Path

from driftloop_bus.port import MAX_VALUE_BYTES


@dataclass(frozen=True, slots=True)
class BrokerFolder:
    """The files of a local broker, all below `root`."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def properties(self) -> Path:
        return self.root / "server.properties"

    @property
    def formatted(self) -> Path:
        """A marker that exists once the storage is completely formatted."""
        return self.root / "formatted"

    @property
    def scratch(self) -> Path:
        """Java's temporary files (native libraries of the compression codecs)."""
        return self.root / "tmp"

    @property
    def log(self) -> Path:
        return self.root / "kafka.log"

    @property
    def process(self) -> Path:
        """The process id and port of the most recently started broker."""
        return self.root / "process.json"


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """Return the properties of a KRaft node that is broker and controller, on loopback only, with
    small internal topics."""
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        # Topics are created explicitly, with the partitions and retention of the settings.
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "message.max.bytes": MAX_VALUE_BYTES + (1 << 20),
        # Only whole segments expire, so small ones follow the retention closely.
        "log.segment.bytes": 64 << 20,
        # The default of 50 partitions for internal topics makes the start slow.
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # A killed broker can only register again after its former session has expired: with the
        # default of 9 s a restart takes 11 s.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # For the traffic of one machine: few threads, and a cleaner that fits the small heap.
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 4 << 20,
        "log.cleaner.io.buffer.size": 512 << 10,
    }
    return "".join(f"{key}={_escaped(str(value))}\n" for key, value in values.items())


def _escaped(value: str) -> str:
    """Escape a value for a Java properties file, which is in Latin-1 and uses `\\` for escapes."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 0x7F else f"\\u{code:04x}" for code in codes)


def java_options(folder: BrokerFolder, heap_mb: int) -> list[str]:
    """Return Java options that make the broker small, quick to start, and quiet."""
    return [
        # The heap grows on demand and shrinks again. A small nursery is collected often, so that
        # garbage does not accumulate for hours and look like a leak.
        "-Xms48m",
        f"-Xmx{heap_mb}m",
        "-XX:MaxNewSize=32m",
        "-XX:MinHeapFreeRatio=10",
        "-XX:MaxHeapFreeRatio=30",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Xshare:auto",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={folder.scratch}",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        f"-Dorg.slf4j.simpleLogger.logFile={folder.log}",
    ]


def log_tail(folder: BrokerFolder, lines: int = 6) -> str:
    """Return the last lines of the broker's log without Java's stack frames, for error messages."""
    try:
        text = folder.log.read_text(errors="replace")
    except OSError:
        return ""
    told = [line for line in text.splitlines() if not line.startswith(("\tat ", "\t... "))]
    return "\n".join(told[-lines:])
