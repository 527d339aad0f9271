"""A real Apache Kafka for the tests: one node, broker and controller in one process, in a folder of its own.

Enters: the jars that `make kafka` put into build/kafka. Leaves: a running node with three doors on free local ports: plain,
TLS with passwords, TLS with client certificates. ``python -m tools.kafka start`` and ``... stop`` do it by hand.
Layer: none (outside the package).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
JARS = Path(os.environ.get("TOCSIN_KAFKA_JARS") or CHECKOUT / "build" / "kafka")  # a copy of the tree shares them
RUNNING = JARS / "running.json"  # which node `start` started
POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
USER, PASSWORD = "tocsin", "correct horse"  # of a broker that only this machine reaches, for as long as a test runs
DOORS = ("PLAIN", "SECURE", "MUTUAL", "CONTROLLER")
START_SECONDS, STOP_SECONDS = 120, 20


def absent() -> str:
    """Return why no Kafka can be started here, or the empty string."""
    for program in ("java", "openssl"):
        if not shutil.which(program):
            return f"the program {program} is not on the PATH"
    return "" if _fetched() else "build/kafka has not the jars that tools/kafka/pom.xml names (`make kafka`)"


def fetch() -> None:
    """Copy the jars to build/kafka, by Maven; the folder appears whole or not at all."""
    if _fetched():
        return
    part = JARS.with_name("kafka.part")
    shutil.rmtree(part, ignore_errors=True)
    repository = Path.home() / ".m2" / "repository"  # Maven itself would not look at $HOME
    options = ["-q", "-B", "--strict-checksums", f"-Dmaven.repo.local={repository}", "-f", str(POM)]
    subprocess.run([_program("mvn"), *options, COPY, f"-DoutputDirectory={part}"], check=True)
    shutil.copy(POM, part)
    shutil.rmtree(JARS, ignore_errors=True)
    part.rename(JARS)


def _fetched() -> bool:
    kept = JARS / POM.name
    return kept.is_file() and kept.read_bytes() == POM.read_bytes()


@dataclass
class Kafka:
    """One node in a folder.

    Attributes:
        folder: Its data, certificates and log; made when it is not there.
        ports: By door; free ones are taken when none are given, and kept over restarts.
        pid: Of the running process, or None.
    """

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    pid: int | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def plain(self) -> str:
        """The address without TLS, without a password."""
        return f"127.0.0.1:{self.ports['PLAIN']}"

    @property
    def secure(self) -> str:
        """The address with TLS (`certificate`) and passwords, SCRAM-SHA-512 or PLAIN."""
        return f"127.0.0.1:{self.ports['SECURE']}"

    @property
    def mutual(self) -> str:
        """The address with TLS where the client shows a certificate too (`client_certificate`, `client_key`)."""
        return f"127.0.0.1:{self.ports['MUTUAL']}"

    @property
    def certificate(self) -> Path:
        """The certificate of the node; it signed itself, so it is the authority too."""
        return self.folder / "node.pem"

    @property
    def client_certificate(self) -> Path:
        """The only certificate that the third door lets in."""
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        """The key of it."""
        return self.folder / "client.key"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.folder / "log.txt"

    def start(self) -> None:
        """Start the node, the first time with an empty storage, and return once it serves.

        Raises:
            RuntimeError: It stopped, or does not serve in time; the message ends with its log.
        """
        if not self.ports:
            self._make()
        with self.log.open("ab") as log:
            settings = str(self.folder / "node.properties")
            self._process = process = subprocess.Popen(
                [*_java(), "kafka.Kafka", settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = process.pid
        late = time.monotonic() + START_SECONDS
        while not all(_listens(self.ports[door]) for door in DOORS):
            if process.poll() is not None or time.monotonic() > late:
                self.kill()
                raise RuntimeError(f"Kafka does not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order (SIGTERM); after a while, in bad order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it, and start it again on the same ports with the same data."""
        self.kill()
        self.start()

    def _end(self, with_signal: signal.Signals) -> None:
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        late = time.monotonic() + STOP_SECONDS
        try:
            os.kill(pid, with_signal)
            while not self._gone(pid):
                if time.monotonic() > late:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
        except ProcessLookupError:
            pass

    def _gone(self, pid: int) -> bool:
        """Return whether the process is over: ours, or one that another of us started."""
        if self._process is not None:
            return self._process.poll() is not None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _make(self) -> None:
        """Choose ports, make certificates, format the storage."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = [socket.create_server(("127.0.0.1", 0)) for _ in DOORS]
        self.ports = {door: taken.getsockname()[1] for door, taken in zip(DOORS, held, strict=True)}
        for taken in held:
            taken.close()
        _certificate(self.certificate, self.folder / "node.key")
        _certificate(self.client_certificate, self.client_key)
        both = self.folder / "node.both.pem"
        both.write_bytes((self.folder / "node.key").read_bytes() + self.certificate.read_bytes())
        settings = self.folder / "node.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings(both).items()))
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        with self.log.open("ab") as log:
            words = ["format", "-t", "dG9jc2luLXRlc3RzLTAwMQ", "-c", str(settings), "--add-scram", scram]
            subprocess.run([*_java(), "kafka.tools.StorageTool", *words], stdout=log, stderr=log, check=True)

    def _settings(self, both: Path) -> dict[str, str | int]:
        where = {door: f"{door}://127.0.0.1:{port}" for door, port in self.ports.items()}
        login = "org.apache.kafka.common.security"
        secrets = {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            "plain.sasl.jaas.config": f'{login}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        }
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.ports['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(where.values()),
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAIN",
            **{f"listener.name.secure.{name}": value for name, value in secrets.items()},
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.client_certificate),
            "log.dirs": str(self.folder / "data"),
            # A node that died and comes back is let in at once, and so is the member of a group.
            "broker.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 200,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            # One node, so one copy; few threads and little memory: it shares the machine with the tests.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "auto.create.topics.enable": "false",
            "num.network.threads": 1,
            "num.io.threads": 2,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 4 << 20,
        }


def _program(name: str) -> str:
    return shutil.which(name) or name


def _java() -> list[str]:
    quick = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    return [_program("java"), *quick, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*"]


def _certificate(certificate: Path, key: Path) -> None:
    """Make a key and a certificate that signs itself, for this machine, for a day."""
    names = ["-subj", f"/CN={certificate.stem}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subprocess.run(
        [_program("openssl"), "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start() -> None:
    if RUNNING.exists():
        raise SystemExit(f"one was started before: `python -m tools.kafka stop` ({RUNNING})")
    node = Kafka(Path(tempfile.mkdtemp(prefix="tocsin-kafka-")))
    node.start()
    RUNNING.write_text(json.dumps({"pid": node.pid, "folder": str(node.folder), "ports": node.ports}))
    print(f"Kafka serves at {node.plain} (plain)")
    print(f"  {node.secure} (SASL over TLS: user {USER!r}, password {PASSWORD!r}, authority {node.certificate})")
    print(f"  {node.mutual} (TLS: certificate {node.client_certificate}, key {node.client_key})")


def _stop() -> None:
    if not RUNNING.exists():
        raise SystemExit("none was started")
    kept = json.loads(RUNNING.read_text())
    Kafka(Path(kept["folder"]), kept["ports"], kept["pid"]).stop()
    shutil.rmtree(kept["folder"], ignore_errors=True)
    RUNNING.unlink()


if __name__ == "__main__":
    verbs = {"fetch": fetch, "start": _start, "stop": _stop}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        raise SystemExit(f"usage: python -m tools.kafka {'|'.join(verbs)}")
    verbs[sys.argv[1]]()
