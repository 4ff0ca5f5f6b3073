"""Downloads from a server that misbehaves, and archives that should not be trusted."""

from __future__ import annotations

import hashlib
import http.server
import io
import random
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from retr.benchmarks.beir.download import DownloadError, download, fetch_dataset, unpack

BODY = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Behaviour:
    """How the server answers; `requests` has the Range of each request."""

    body: bytes = BODY
    cut_after: list[int] = field(default_factory=list)  # one for each request, then whole
    ranges: bool = True
    wrong_range: bool = False
    length: bool = True
    statuses: list[int] = field(default_factory=list)  # one for each request, then 200
    stall_after: int | None = None  # bytes, in the first request only
    going: threading.Event = field(default_factory=threading.Event)
    requests: list[str | None] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        b = self.behaviour
        wanted = self.headers.get("Range")
        b.requests.append(wanted)
        if b.statuses:
            status = b.statuses.pop(0)
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and b.ranges else 0
        if start and start >= len(b.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(b.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first = start - 7 if b.wrong_range else start
            self.send_header("Content-Range", f"bytes {first}-{len(b.body) - 1}/{len(b.body)}")
        body = b.body[start:]
        if b.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if b.cut_after:
            body = body[: b.cut_after.pop(0)]
        if b.stall_after is not None and len(b.requests) == 1:
            self.wfile.write(body[: b.stall_after])
            self.wfile.flush()
            b.going.wait(10)
            return
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("Bound", (Handler,), {"behaviour": behaviour})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/set.zip", behaviour
        running.shutdown()


def fetch(url: str, path: Path, md5: str = MD5, **more: object) -> Path:
    return download(url, path, md5=md5, pause=0.0, timeout=5.0, **more)


def test_a_file_is_fetched_whole_and_not_again(server, tmp_path):
    url, behaviour = server
    path = fetch(url, tmp_path / "set.zip")
    assert path.read_bytes() == BODY
    fetch(url, tmp_path / "set.zip")
    assert behaviour.requests == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["set.zip"]


def test_a_connection_that_breaks_off_is_gone_on_with(server, tmp_path):
    url, behaviour = server
    behaviour.cut_after = [100_000, 1, 50_000]
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == [None, "bytes=100000-", "bytes=100001-", "bytes=150001-"]


def test_what_a_killed_process_left_is_gone_on_with(server, tmp_path):
    url, behaviour = server
    (tmp_path / "set.zip.part").write_bytes(BODY[:123_456])
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == ["bytes=123456-"]


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    url, behaviour = server
    (tmp_path / "set.zip.part").write_bytes(BODY)
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == [f"bytes={len(BODY)}-"]


def test_a_part_of_something_else_is_thrown_away(server, tmp_path):
    url, behaviour = server
    (tmp_path / "set.zip.part").write_bytes(b"x" * 100_000)
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == ["bytes=100000-", None]


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    url, _ = server
    (tmp_path / "set.zip.part").write_bytes(b"x" * (len(BODY) + 1))
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY


def test_a_server_that_ignores_ranges_begins_anew(server, tmp_path):
    url, behaviour = server
    behaviour.ranges = False
    behaviour.cut_after = [100_000]
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == [None, "bytes=100000-"]


def test_a_server_that_sends_another_range_is_not_believed(server, tmp_path):
    url, behaviour = server
    behaviour.wrong_range = True
    behaviour.cut_after = [100_000]
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == [None, "bytes=100000-", None]


def test_a_length_that_is_not_told_is_no_obstacle(server, tmp_path):
    url, behaviour = server
    behaviour.length = False
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY


def test_wrong_bytes_are_refused_and_not_kept(server, tmp_path):
    url, behaviour = server
    behaviour.body = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(DownloadError, match=f"MD5 is .*, but {MD5} was published"):
        fetch(url, tmp_path / "set.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_from_before_is_replaced(server, tmp_path):
    url, _ = server
    (tmp_path / "set.zip").write_bytes(b"not it")
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there_is_said_at_once(server, tmp_path, status):
    url, behaviour = server
    behaviour.statuses = [status] * 10
    with pytest.raises(DownloadError, match=f"the server says {status}") as raised:
        fetch(url, tmp_path / "set.zip")
    assert len(behaviour.requests) == 1
    assert "\n" not in str(raised.value)


def test_a_server_in_trouble_is_asked_again(server, tmp_path):
    url, behaviour = server
    behaviour.statuses = [503, 500, 429]
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert len(behaviour.requests) == 4


def test_a_server_that_stays_in_trouble_is_given_up(server, tmp_path):
    url, behaviour = server
    (tmp_path / "set.zip.part").write_bytes(BODY[:1000])
    behaviour.statuses = [503] * 10
    with pytest.raises(DownloadError, match=r"503.*1,000 bytes are kept.*same command"):
        fetch(url, tmp_path / "set.zip", retries=3)
    assert len(behaviour.requests) == 3
    assert (tmp_path / "set.zip.part").read_bytes() == BODY[:1000]


def test_no_server_is_one_clear_line(tmp_path):
    with pytest.raises(DownloadError, match="cannot be downloaded") as raised:
        fetch("http://127.0.0.1:9/set.zip", tmp_path / "set.zip", retries=2)
    assert "\n" not in str(raised.value)


def archive(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


GOOD = {
    "toy/corpus.jsonl": '{"_id": "1", "text": "a"}\n',
    "toy/queries.jsonl": '{"_id": "q", "text": "a"}\n',
    "toy/qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\t1\t1\n",
}


def test_a_data_set_is_unpacked_and_nothing_else(tmp_path):
    more = {**GOOD, "toy/evil.sh": "rm", "__MACOSX/toy/._corpus.jsonl": "x", "readme": "x"}
    [folder] = unpack(archive(tmp_path / "a.zip", more), tmp_path / "out")
    files = {p.relative_to(tmp_path / "out").as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == set(GOOD)
    assert (folder / "corpus.jsonl").read_text() == GOOD["toy/corpus.jsonl"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["toy"]


def test_forums_are_unpacked_side_by_side(tmp_path):
    members = {}
    for forum in ("android", "gis"):
        members |= {n.replace("toy", f"cqadupstack/{forum}"): c for n, c in GOOD.items()}
    found = unpack(archive(tmp_path / "a.zip", members), tmp_path / "out")
    assert found == [tmp_path / "out" / "cqadupstack" / f for f in ("android", "gis")]


def test_a_folder_that_is_there_is_kept(tmp_path):
    path = archive(tmp_path / "a.zip", GOOD)
    [folder] = unpack(path, tmp_path)
    (folder / "corpus.jsonl").write_text("mine")
    unpack(path, tmp_path)
    assert (folder / "corpus.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["../corpus.jsonl", "/etc/corpus.jsonl", "toy/../../corpus.jsonl", "toy\\corpus.jsonl"]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = archive(tmp_path / "a.zip", {**GOOD, name: "x"})
    with pytest.raises(DownloadError, match="leads out of it"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.jsonl"))


def test_links_are_refused(tmp_path):
    path = archive(tmp_path / "a.zip", GOOD)
    link = zipfile.ZipInfo("toy/queries.jsonl.link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(DownloadError, match="leads out of it"):
        unpack(path, tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_written(tmp_path):
    path = archive(tmp_path / "a.zip", {**GOOD, "toy/corpus.jsonl": b"0" * 50_000_000})
    with pytest.raises(DownloadError, match="far more than a data set"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_more_than_the_limit_is_refused(tmp_path):
    path = archive(
        tmp_path / "a.zip", {**GOOD, "toy/corpus.jsonl": random.Random(1).randbytes(9000)}
    )
    with pytest.raises(DownloadError, match="far more than a data set"):
        unpack(path, tmp_path / "out", limit=5000)


def test_an_entry_whose_stated_size_is_a_lie_is_refused(tmp_path):
    # The size in the central directory says 10 bytes, the stream has 10,000.
    content = random.Random(2).randbytes(10_000)
    path = archive(tmp_path / "a.zip", {**GOOD, "toy/corpus.jsonl": content})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    while raw[at + 46 : at + 46 + 16] != b"toy/corpus.jsonl":
        at = raw.index(b"PK\x01\x02", at + 1)
    raw[at + 24 : at + 28] = (10).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(DownloadError):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "toy").exists()


@pytest.mark.parametrize("cut", [10, 200])
def test_a_damaged_archive_is_one_clear_line(tmp_path, cut):
    path = archive(tmp_path / "a.zip", GOOD)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DownloadError, match="no zip file that can be read") as raised:
        unpack(path, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_flipped_bytes_are_found_by_the_archives_own_checksum(tmp_path):
    content = random.Random(3).randbytes(10_000)
    path = archive(tmp_path / "a.zip", {**GOOD, "toy/corpus.jsonl": content})
    raw = path.read_bytes()
    at = raw.index(content[100:120])
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(DownloadError):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "toy").exists()


def test_an_archive_without_a_data_set(tmp_path):
    with pytest.raises(DownloadError, match=r"no corpus\.jsonl"):
        unpack(archive(tmp_path / "a.zip", {"toy/queries.jsonl": "{}"}), tmp_path / "out")


def test_a_data_set_is_fetched_once_and_its_archive_removed(server, tmp_path):
    url, behaviour = server
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in GOOD.items():
            opened.writestr(name, content)
    behaviour.body = buffer.getvalue()
    md5 = hashlib.md5(behaviour.body).hexdigest()
    for _ in range(2):
        folder = fetch_dataset(url, md5, tmp_path / "toy", tmp_path)
        assert (folder / "qrels" / "test.tsv").is_file()
    assert behaviour.requests == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_a_stall_keeps_what_has_come(server, tmp_path):
    url, behaviour = server
    behaviour.stall_after = 70_001
    try:
        path = download(url, tmp_path / "set.zip", md5=MD5, pause=0.0, timeout=0.5)
    finally:
        behaviour.going.set()
    assert path.read_bytes() == BODY
    assert behaviour.requests == [None, "bytes=70001-"]


def test_a_cut_of_unknown_length_is_gone_on_with(server, tmp_path):
    url, behaviour = server
    behaviour.length = False
    behaviour.cut_after = [100_000]
    assert fetch(url, tmp_path / "set.zip").read_bytes() == BODY
    assert behaviour.requests == [None, "bytes=100000-"]


def test_wrong_bytes_of_unknown_length_are_refused(server, tmp_path):
    url, behaviour = server
    behaviour.length = behaviour.ranges = False
    behaviour.body = BODY[:-1]
    with pytest.raises(DownloadError, match="MD5 is"):
        fetch(url, tmp_path / "set.zip")
    assert list(tmp_path.iterdir()) == []


def test_two_that_want_one_archive_fetch_it_once(server, tmp_path):
    url, behaviour = server
    members = {}
    for forum in ("android", "gis"):
        members |= {n.replace("toy", f"cqadupstack/{forum}"): c for n, c in GOOD.items()}
    behaviour.body = archive(tmp_path / "made.zip", members).read_bytes()
    md5, into = hashlib.md5(behaviour.body).hexdigest(), tmp_path / "data"
    found: list[Path] = []

    def want(forum: str) -> None:
        found.append(fetch_dataset(url, md5, into / "cqadupstack" / forum, into))

    threads = [threading.Thread(target=want, args=(forum,)) for forum in ("android", "gis")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in found} == {"android", "gis"}
    assert behaviour.requests == [None]
    assert [p.name for p in into.iterdir()] == ["cqadupstack"]


def test_what_dead_processes_left_while_unpacking_is_removed(tmp_path):
    left_over = tmp_path / "out" / ".toy.part"
    (left_over / "qrels").mkdir(parents=True)
    (left_over / "qrels" / "old.tsv").write_text("of another version")
    unpack(archive(tmp_path / "a.zip", GOOD), tmp_path / "out")
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert files == set(GOOD)
