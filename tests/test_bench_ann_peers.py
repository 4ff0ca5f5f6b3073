"""Every system that is installed answers, in each metric, as well as its settings let it."""

import numpy as np
import pytest

from retr.benchmarks.ann.peers import default_systems, name_of, peer, peers
from retr.benchmarks.ann.peers.base import Task
from retr.benchmarks.ann.truth import judge, nearest, scored
from retr.indexes.base import Metric
from retr.retrieval.values.errors import InputError

SYSTEMS = {
    "exact:faiss": "faiss",
    "exact:blas": "numpy",
    "hnswlib": "hnswlib",
    "usearch": "usearch",
    "faiss_hnsw": "faiss",
    "faiss_hnsw:refine": "faiss",
    "faiss_ivf": "faiss",
    "scann": "scann",
    "qdrant": "qdrant_client",
    "retr:flat": "faiss",
}


@pytest.fixture(scope="module")
def vectors(data):
    base = np.load(data / "vectors/minilm55k.base.f16.npy")[:1500].astype(np.float32)
    queries = np.load(data / "vectors/minilm55k.queries.f16.npy")[:40].astype(np.float32)
    return base / np.linalg.norm(base, axis=1, keepdims=True), queries


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
@pytest.mark.parametrize("system", SYSTEMS)
def test_it_finds_more_at_its_last_setting_and_both_ways_agree(system, metric, vectors, tmp_path):
    pytest.importorskip(SYSTEMS[system])
    base, queries = vectors
    if metric is Metric.L2:  # of several lengths, so that it is another ranking
        base = base * np.linspace(0.8, 1.2, len(base), dtype=np.float32)[:, None]
    kth = nearest(base, queries, metric, 10)[1][:, -1]
    task = Task(len(base), base.shape[1], metric, 10, 1)
    option = name_of(system)[1]
    built = peer(system)(task, option)
    assert built.label()
    built.build(base, tmp_path)
    opened = peer(system)(task, option)
    opened.open(base, tmp_path)
    recalls = []
    settings = opened.settings()
    for setting in (settings[0], settings[-1]):
        opened.use(setting)
        alone = np.stack([np.asarray(opened.one(query[None])).reshape(-1) for query in queries])
        together = opened.batch(queries)
        assert together.shape == alone.shape == (len(queries), 10)
        judged = [
            judge(rows, scored(base, queries, metric, rows), kth, len(base))
            for rows in (alone, together)
        ]
        assert [each.invalid + each.repeated for each in judged] == [0, 0]
        recalls.append(judged[1].recall)
    # At few leaves ScaNN's batches are another search than its single queries.
    assert judged[0].recall == pytest.approx(judged[1].recall, abs=0.02)
    assert recalls[0] <= recalls[1]
    assert recalls[1] == 1.0 if len(settings) == 1 else recalls[1] > 0.9


def test_all_systems_are_known_by_their_names():
    assert {name_of(system)[0] for system in default_systems(384)} == set(peers())
    for system in default_systems(384):
        assert peer(system).title
    for system in ("hnsw", "hnswlib:m99", "retr:", "retr:auto@1.5", "retr:auto@high", "retr:no"):
        with pytest.raises(InputError, match=r"there is no|retr"):
            peer(system)
