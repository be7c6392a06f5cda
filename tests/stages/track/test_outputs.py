import io
import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stages.track import outputs
from stages.track.clusters import cluster_latents
from stages.track.questions import plan_shards, read_questions


@pytest.fixture
def nodes():
    """Two questions: the first with two tracks at its prompt and one at its answer, the second with one."""
    rows = [  # question, position, track, layer, latent, activation, link
        (0, 0, 0, 3, 7, 1.0, np.nan),
        (0, 0, 0, 4, 7, 2.0, 0.9),
        (0, 0, 1, 4, 2, 9.0, np.nan),
        (0, 1, 0, 3, 5, 0.5, np.nan),
        (1, 0, 0, 4, 1, 4.0, np.nan),
    ]
    names = ("question", "position", "track", "layer", "latent", "activation", "link")
    kinds = (np.int32, np.int16, np.int32, np.int16, np.int32, np.float32, np.float32)
    return {
        name: np.array([row[i] for row in rows], dtype=kind)
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


GENERATIONS = [
    {"id": "a", "relation": "r", "prompt": "p", "answer": "x", "gold": "x", "label": 0, "excluded": None, "tokens": ["x"]},
    {"id": "b", "relation": "r", "prompt": "<b>", "answer": "", "gold": "y", "label": None, "excluded": "empty", "tokens": []},
]  # fmt: skip


def test_trajectories_hold_the_strongest_tracks_with_their_paths(tmp_path, nodes):
    path = tmp_path / "hypothesis_trajectories.json"
    outputs.write_trajectories(path, GENERATIONS, nodes, [3, 4], strongest=1)
    first, second = json.loads(path.read_text())["questions"]
    assert [place["token"] for place in first["positions"]] == ["(prompt)", "x"]
    assert first["positions"][0]["tracks"] == [
        {"id": 1, "birth": 4, "death": 4, "mean_link": None, "path": [[4, 2, 9.0]]}
    ]
    assert second["excluded"] == "empty"
    outputs.write_trajectories(path, GENERATIONS, nodes, [3, 4], strongest=5)
    tracks = json.loads(path.read_text())["questions"][0]["positions"][0]["tracks"]
    assert tracks[1] == {
        "id": 0,
        "birth": 3,
        "death": 4,
        "mean_link": 0.9,
        "path": [[3, 7, 1.0], [4, 7, 2.0]],
    }


def test_activations_open_without_pickled_code(tmp_path, nodes):
    path = tmp_path / "feature_activations.pt"
    outputs.write_activations(path, nodes, [3, 4], ["a", "b"])
    loaded = torch.load(path, weights_only=True)
    assert loaded["question_ids"] == ["a", "b"]
    np.testing.assert_array_equal(loaded["activation"].numpy(), nodes["activation"])


def test_parquet_keeps_every_node_and_type(tmp_path, nodes):
    outputs.write_parquet(tmp_path / "tracks.parquet", nodes)
    table = pq.read_table(tmp_path / "tracks.parquet")
    for name, values in nodes.items():
        read = table[name].to_numpy()
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


class PlainUnpickler(pickle.Unpickler):
    """Refuses everything but what numpy needs to rebuild an array."""

    def find_class(self, module, name):
        assert module.startswith("numpy")
        assert name in {
            "_reconstruct",
            "ndarray",
            "dtype",
            "scalar",
            "_frombuffer",
        }
        return super().find_class(module, name)


def test_clusters_separate_directions_and_open_in_a_restricted_unpickler(tmp_path):
    east, north = torch.eye(2)
    spread = 0.05 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    decoder = torch.nn.functional.normalize(torch.stack([east] * 5 + [north] * 5) + spread, dim=1)
    latents = np.arange(10, dtype=np.int32)
    clusters = cluster_latents(
        np.zeros(10, np.int16), latents, np.array([1.0] * 5 + [3.0] * 5, np.float32), {0: decoder}, 2, seed=0
    )
    members = [sorted(cluster["members"][:, 1].tolist()) for cluster in clusters]
    assert members == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]  # the heavier first
    assert clusters[0]["centroid"] @ north.numpy() > 0.99
    outputs.write_clusters(tmp_path / "semantic_clusters.pkl", clusters, [0])
    loaded = PlainUnpickler(io.BytesIO((tmp_path / "semantic_clusters.pkl").read_bytes())).load()
    np.testing.assert_array_equal(loaded["clusters"][1]["members"], clusters[1]["members"])


def test_shards_cover_all_questions_and_never_mix_prefixes():
    prefixes = ["b", "a", "b", "", "a", "b", "b"]
    shards = plan_shards(prefixes, shard_size=3, batch_size=2)
    batches = [batch for shard in shards for batch in shard]
    assert sorted(number for batch in batches for number in batch.numbers) == list(range(7))
    assert all({prefixes[number] for number in batch.numbers} == {batch.prefix} for batch in batches)
    assert max(len(batch.numbers) for batch in batches) == 2
    assert [sum(len(batch.numbers) for batch in shard) for shard in shards] == [3, 3, 1]


def test_a_damaged_question_file_names_the_line(tmp_path):
    from common.errors import CorruptInputError

    path = tmp_path / "questions.jsonl"
    path.write_text('{"prefix": "", "query": "q", "aliases": []}\n{"prefix": ""}\n')
    with pytest.raises(CorruptInputError, match="line 2"):
        read_questions(path)
