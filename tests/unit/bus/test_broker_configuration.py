"""The broker's configuration, its processes, and how a cluster is reached."""

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from driftloop_bus import bootstrap_servers, local_kafka
from driftloop_bus.broker_properties import BrokerFolder, java_options, server_properties
from driftloop_bus.kafka_connection import connection_options
from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_contracts.errors import Unavailable
from driftloop_settings import KafkaSettings, Settings


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_broker_listens_on_loopback_only() -> None:
    values = properties(server_properties(Path("/data"), 9092, 9093))
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert values["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert values["controller.quorum.voters"] == "1@127.0.0.1:9093"


def test_the_broker_takes_the_largest_record() -> None:
    values = properties(server_properties(Path("/data"), 9092, 9093))
    assert int(values["message.max.bytes"]) > MAX_VALUE_BYTES


def test_the_heap_is_the_settings_and_all_files_lie_in_the_folder(tmp_path: Path) -> None:
    options = java_options(BrokerFolder(tmp_path), 256)
    assert "-Xmx256m" in options
    assert all(str(tmp_path) in option for option in options if "/" in option)


def test_a_cluster_of_the_users_own_is_used_with_its_security() -> None:
    kafka = KafkaSettings(
        bootstrap_servers="broker:9093",
        security_protocol="SASL_SSL",
        ssl_cafile="ca.pem",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="loop",
        sasl_password=SecretStr("secret"),
    )
    assert bootstrap_servers(Settings(kafka=kafka)) == "broker:9093"
    options = connection_options("broker:9093", kafka)
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_cafile"] == "ca.pem"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "loop"
    assert options["sasl_plain_password"] == "secret"


def test_without_one_it_is_this_machines_broker() -> None:
    assert bootstrap_servers(Settings(kafka=KafkaSettings(port=1234))) == "127.0.0.1:1234"
    assert "sasl_mechanism" not in connection_options("127.0.0.1:1234", KafkaSettings())


def test_no_broker_is_started_beside_a_cluster_of_the_users_own(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, kafka=KafkaSettings(bootstrap_servers="broker:9092"))
    with pytest.raises(Unavailable, match="broker:9092"):
        local_kafka.start(settings)


def test_a_process_that_only_has_the_brokers_old_number_is_left_alone(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path / "kafka")
    folder.root.mkdir()
    folder.process.write_text(json.dumps({"pid": os.getpid(), "port": 1}))
    document = local_kafka.stop(Settings(state_dir=tmp_path))
    assert document["running"] is False
    assert document["pid"] is None


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_process_file_reads_as_no_broker(tmp_path: Path, text: str) -> None:
    folder = BrokerFolder(tmp_path / "kafka")
    folder.root.mkdir()
    folder.process.write_text(text)
    assert local_kafka.status(Settings(state_dir=tmp_path))["running"] is False


def test_a_folder_of_any_script_is_written_as_java_reads_it() -> None:
    lines = server_properties(Path("/zustand ü/日本/😀"), 1, 2).splitlines()
    assert "log.dirs=/zustand \\u00fc/\\u65e5\\u672c/\\ud83d\\ude00" in lines
