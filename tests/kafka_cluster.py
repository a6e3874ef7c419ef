"""A real cluster of Apache Kafka: three brokers on one address that keep each record three times,
and that clients reach over TLS and SASL only. Each broker can be killed and started again."""

import base64
import datetime
import ipaddress
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from driftloop_bus.broker_properties import BrokerFolder, java_options, log_tail
from driftloop_bus.class_archive import archive_options
from driftloop_bus.java import find_java
from driftloop_bus.kafka_bus import KafkaBus
from driftloop_bus.kafka_distribution import cache_folder, class_path
from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_bus.zstd_library import zstd_options
from driftloop_contracts.errors import RetryLater
from driftloop_settings import KafkaSettings
from driftloop_settings.ports import free_port

BROKERS = 3
START_S = 120.0
HEAP_MB = 256
USER, PASSWORD = "loop", "a-password-of-the-test"


class KafkaCluster:
    """Make it with `kafka_cluster`. `settings`: how a client reaches it."""

    def __init__(self, root: Path, host: str) -> None:
        self._root, self._host = root, host
        self._ports = {n: (free_port(), free_port(), free_port()) for n in range(1, BROKERS + 1)}
        self._brokers: dict[int, subprocess.Popen[bytes]] = {}
        self._java, self._jars = find_java(), class_path()
        certificate = root / "certificate.pem"
        key = root / "key.pem"
        _certify(certificate, key, host)
        self._key_store = root / "key-store.pem"
        self._key_store.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.settings = KafkaSettings(
            bootstrap_servers=",".join(f"{host}:{c}" for c, _, _ in self._ports.values()),
            security_protocol="SASL_SSL",
            ssl_cafile=str(certificate),
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=USER,
            sasl_password=PASSWORD,
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for number in self._ports:
            self._format(number, cluster)

    @property
    def bus(self) -> KafkaBus:
        assert self.settings.bootstrap_servers is not None
        return KafkaBus(self.settings.bootstrap_servers, self.settings)

    def start(self, number: int) -> None:
        folder = self._folder(number)
        cached = [
            *archive_options(self._java, self._jars, cache_folder()),
            *zstd_options(self._jars, cache_folder()),
        ]
        argv = [*self._command(folder, cached), "kafka.Kafka", str(folder.properties)]
        self._brokers[number] = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, number: int) -> None:
        """With -9."""
        broker = self._brokers.pop(number)
        broker.kill()
        broker.wait()

    def leader(self, topic: str, partition: int) -> int:
        return int(self._partition(topic, partition)["leader_id"])

    def in_sync(self, topic: str, partition: int) -> int:
        """How many brokers have all records of the partition."""
        return len(self._partition(topic, partition)["isr_nodes"])

    def _partition(self, topic: str, partition: int) -> dict[str, Any]:
        with self.bus._admin() as admin:
            (found,) = admin.describe_topics([topic])
        return {each["partition_index"]: each for each in found["partitions"]}[partition]

    def await_answer(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            with suppress(RetryLater):
                self.bus.topics()
                return
            ended = [n for n, broker in self._brokers.items() if broker.poll() is not None]
            if ended or time.monotonic() > deadline:
                tails = "\n".join(log_tail(self._folder(n)) for n in ended or self._ports)
                raise RuntimeError(
                    f"the cluster does not answer; brokers that ended: {ended}\n{tails}"
                )
            time.sleep(0.2)

    def close(self) -> None:
        for number in list(self._brokers):
            self.kill(number)

    def _folder(self, number: int) -> BrokerFolder:
        return BrokerFolder(self._root / f"broker-{number}")

    def _command(self, folder: BrokerFolder, cached: list[str]) -> list[str]:
        options = java_options(folder, HEAP_MB)
        return [str(self._java), *cached, *options, "-cp", self._jars]

    def _format(self, number: int, cluster: str) -> None:
        folder = self._folder(number)
        folder.scratch.mkdir(parents=True)
        folder.properties.write_text(
            "".join(f"{key}={value}\n" for key, value in self._properties(number).items())
        )
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        argv = [
            *self._command(folder, []),
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(folder.properties),
            "--add-scram",
            scram,
        ]
        subprocess.run(argv, check=True, capture_output=True, text=True)

    def _properties(self, number: int) -> Mapping[str, object]:
        clients, brokers, controller = self._ports[number]
        voters = ",".join(f"{n}@127.0.0.1:{ports[2]}" for n, ports in self._ports.items())
        jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": voters,
            "listeners": f"CLIENTS://{self._host}:{clients},BROKERS://127.0.0.1:{brokers},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENTS://{self._host}:{clients},BROKERS://127.0.0.1:{brokers}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "BROKERS",
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,BROKERS:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._key_store,
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": jaas,
            "log.dirs": self._folder(number).data,
            "auto.create.topics.enable": "false",
            "default.replication.factor": BROKERS,
            "min.insync.replicas": 2,
            "message.max.bytes": MAX_VALUE_BYTES + (1 << 20),
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
            "log.cleaner.dedupe.buffer.size": 4 << 20,
            "log.cleaner.io.buffer.size": 512 << 10,
        }


@contextmanager
def kafka_cluster(root: Path, host: str = "127.0.0.1") -> Iterator[KafkaCluster]:
    cluster = KafkaCluster(root, host)
    try:
        for number in range(1, BROKERS + 1):
            cluster.start(number)
        cluster.await_answer()
        yield cluster
    finally:
        cluster.close()


def _certify(certificate: Path, key: Path, host: str) -> None:
    """A certificate for the host's address, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "driftloop-test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
