import io
import json
import pickle
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ghosttrack.common.formats import trajectories
from ghosttrack.common.formats.file import Column, Table
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.stages.track import outputs
from ghosttrack.stages.track.clusters import cluster_latents, effect_geometry
from ghosttrack.stages.track.questions import plan_shards, read_questions
from ghosttrack.stages.track.trajectories import Labels, question_record


@pytest.fixture
def nodes():
    """Two questions: the first with two tracks at its prompt and one at its answer, the second with one."""
    rows = [  # question, position, layer, latent, activation, track, link, posterior, existence, effect
        (0, 0, 3, 7, 1.0, 0, np.nan, 0.5, 0.9, 0.1),
        (0, 0, 4, 2, 9.0, 1, np.nan, 0.6, 0.8, -0.5),
        (0, 0, 4, 7, 2.0, 0, 0.9, 0.75, 0.9, 0.2),
        (0, 1, 3, 7, 0.5, 0, np.nan, 0.5, 0.9, 0.3),
        (1, 0, 4, 1, 4.0, 0, np.nan, 0.5, 0.9, 0.0),
    ]
    kinds = (np.int32, np.int16, np.int16, np.int32, np.float32, np.int16) + (np.float32,) * 4
    return {
        name: np.array([row[i] for row in rows], dtype=kind)
        for i, (name, kind) in enumerate(zip(TRACKS.names, kinds, strict=True))
    }


OWNER = np.array([[0, 0], [0, 1], [1, 0]])
LAYERS = {
    "question": np.repeat([0, 0, 1], 2).astype(np.int32),
    "position": np.repeat([0, 1, 0], 2).astype(np.int16),
    "layer": np.tile([3, 4], 3).astype(np.int16),
    "margin": np.array([-1, 2, 1, 1, 0.5, -0.25], dtype=np.float32),
    "leader": np.array([1, 0, 0, 0, 0, 1], dtype=np.int16),
}
CANDIDATES = {
    "question": np.repeat([0, 0, 1], 2).astype(np.int32),
    "position": np.repeat([0, 1, 0], 2).astype(np.int16),
    "token": np.array([0, 1, 2, 0, 1, 2], dtype=np.int32),
    "logprob": np.array([-0.5, -1, -0.1, -3, -0.7, -0.9], dtype=np.float32),
}
LABELS = Labels([" x", " y", "\n"], {(3, 7): ["a"], (4, 7): ["b"], (4, 2): ["c"], (4, 1): ["d"]}, {(4, 2): 5})
GENERATIONS = [
    {"id": "a", "relation": "r", "subject": "s", "prompt": "p", "answer": "x", "gold": "x", "label": 0, "excluded": None, "tokens": [" x"]},
    {"id": "b", "relation": "r", "subject": "s", "prompt": "<b>", "answer": "", "gold": "y", "label": None, "excluded": "empty", "tokens": []},
]  # fmt: skip


def record(number, nodes, strongest):
    parts = (
        {name: values[table["question"] == number] for name, values in table.items()}
        for table in (nodes, LAYERS, CANDIDATES)
    )
    return question_record(GENERATIONS[number], number, *parts, strongest, LABELS)


def test_a_question_holds_its_strongest_tracks_the_competition_and_links_over_the_answer(nodes):
    prompt, answer = record(0, nodes, 5)["positions"]
    assert (prompt["token"], answer["token"]) == (None, " x")
    assert prompt["candidates"] == [[" x", -0.5], [" y", -1.0]]
    assert (prompt["margin"], prompt["leader"]) == ([-1.0, 2.0], [1, 0])
    assert (prompt["commitment"], prompt["lead_changes"], prompt["late_override"]) == (4, 1, False)
    strongest, other = prompt["tracks"]
    assert (strongest["id"], strongest["promoted"], strongest["cluster"]) == (1, ["c"], 5)
    assert other["path"] == [[3, 7, 1.0, 0.5], [4, 7, 2.0, 0.75]]
    assert (other["birth"], other["death"], other["mean_link"], other["effect"]) == (3, 4, 0.9, 0.2)
    assert other["promoted"] == ["b"]  # of its most active latent
    [later] = answer["tracks"]
    assert later["continues"] == {"id": 0, "overlap": pytest.approx(1 / 5**0.5, abs=1e-3)}


def test_tracks_beyond_the_cap_are_counted(nodes, tmp_path):
    records = [record(number, nodes, 1) for number in (0, 1)]
    assert [place["tracks_left_out"] for place in records[0]["positions"]] == [1, 0]
    path = tmp_path / "hypothesis_trajectories.json"
    written = trajectories.write(path, {"layers": [3, 4], "associator": "nearest"}, iter(records))
    assert written == {"named": 3, "left_out": 1}
    assert json.loads(path.read_text())["questions"][1]["excluded"] == "empty"


def test_trajectories_keep_to_their_schema(nodes, tmp_path):
    path = tmp_path / "hypothesis_trajectories.json"
    records = (record(number, nodes, 5) for number in (0, 1))
    trajectories.write(path, {"layers": [3, 4], "associator": "nearest"}, records)
    schema = json.loads((Path(__file__).parents[3] / "docs/hypothesis_trajectories.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(path.read_text())
    jsonschema.validate(content, schema)
    content["questions"][0]["positions"][0]["tracks"][0]["path"][0].pop()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


def test_activations_are_a_sparse_matrix_that_opens_without_pickled_code(tmp_path, nodes):
    path = tmp_path / "feature_activations.pt"
    nodes["activation"][1] = 1e6  # of a SAE that takes large states as they are
    pieces = [{name: values[part] for name, values in nodes.items()} for part in (slice(0, 4), slice(4, 5))]
    outputs.write_activations(path, pieces, 5, OWNER, [3, 4], 9)
    loaded = torch.load(path, weights_only=True)
    matrix = torch.sparse_csr_tensor(
        loaded["crow"], loaded["latent"].long(), loaded["activation"].float(), tuple(loaded["shape"].tolist())
    ).to_dense()
    expected = torch.zeros(6, 9)
    for question, position, layer, latent, activation in zip(
        *(nodes[name].tolist() for name in TRACKS.names[:5]), strict=True
    ):
        row = [tuple(pair) for pair in OWNER.tolist()].index((question, position)) * 2 + [3, 4].index(layer)
        expected[row, latent] = min(activation, 65504.0)
    torch.testing.assert_close(matrix, expected)
    assert loaded["question"].tolist() == [0, 0, 1]


def test_joined_tables_keep_every_row_and_type(tmp_path, nodes):
    pieces = []
    for number, part in enumerate((slice(0, 2), slice(2, 5))):
        pieces.append(tmp_path / f"{number}.parquet")
        outputs.write_parquet(pieces[-1], {name: values[part] for name, values in nodes.items()})
    TRACKS.join(tmp_path / TRACKS.name, pieces)
    table = pq.read_table(tmp_path / "tracks.parquet")
    for name, values in nodes.items():
        read = table[name].to_numpy()
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


class PlainUnpickler(pickle.Unpickler):
    """Refuses everything but what numpy needs to rebuild an array."""

    def find_class(self, module, name):
        assert module.startswith("numpy")
        assert name in {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
        return super().find_class(module, name)


def test_the_rows_of_shards_come_together_by_question(tmp_path):
    columns = Column("question", "int64"), Column("rank", "int64"), Column("text", "string")
    table, paths = Table("rows.parquet", "track/answers", "rows", columns), [tmp_path / "0", tmp_path / "1"]
    table.write(
        paths[0],
        {"question": np.array([1, 1, 3]), "rank": np.array([0, 1, 0]), "text": np.array(["a", "b", "c"])},
    )
    table.write(
        paths[1],
        {"question": np.array([0, 2]), "rank": np.array([7, 8]), "text": np.array(["long" * 500, "d"])},
    )
    found = outputs.gathered(table, paths)
    assert found["question"].tolist() == [0, 1, 1, 2, 3]
    assert found["rank"].tolist() == [7, 0, 1, 8, 0]
    assert found["text"].tolist() == ["long" * 500, "a", "b", "d", "c"]
    assert found["text"].nbytes < 100  # no text is as wide as the longest


def test_clusters_separate_directions_and_open_in_a_restricted_unpickler(tmp_path):
    east, north = torch.eye(2)
    spread = 0.05 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    decoder = torch.nn.functional.normalize(torch.stack([east] * 5 + [north] * 5) + spread, dim=1)
    weight = [np.array([1.0] * 5 + [3.0] * 4 + [0.0])]
    clusters = cluster_latents(weight, [7], [decoder], torch.eye(2), 2, seed=0)
    members = [sorted(cluster["members"][:, 1].tolist()) for cluster in clusters]
    assert members == [
        [5, 6, 7, 8],
        [0, 1, 2, 3, 4],
    ]  # the heavier first, and no latent that was never active
    assert clusters[0]["centroid"] @ north.numpy() > 0.99
    outputs.write_clusters(tmp_path, clusters, [7])
    loaded = PlainUnpickler(io.BytesIO((tmp_path / "semantic_clusters.pkl").read_bytes())).load()
    np.testing.assert_array_equal(loaded["clusters"][1]["members"], clusters[1]["members"])
    twin = json.loads((tmp_path / "semantic_clusters.json").read_text())
    assert twin["clusters"][1]["members"] == clusters[1]["members"].tolist()


def test_latents_that_promote_the_same_tokens_are_alike_where_directions_are_not():
    """Two latents write at right angles into a plane whose one axis the read-out does not see."""
    read_out = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0])
    geometry = effect_geometry(read_out)
    profiles = torch.tensor([[1.0, 0, 3.0], [1.0, 0, -3.0], [0, 1.0, 0]]) @ geometry
    expected = torch.tensor([[1.0, 0, 3.0], [1.0, 0, -3.0], [0, 1.0, 0]]) @ read_out.T / 50**0.5
    torch.testing.assert_close(
        torch.cdist(profiles, profiles), torch.cdist(expected, expected), rtol=1e-3, atol=1e-3
    )


def test_no_active_latent_gives_no_cluster():
    assert cluster_latents([np.zeros(4)], [0], [torch.eye(4)], torch.eye(4), 2, seed=0) == []


def test_shards_cover_all_questions_and_never_mix_prefixes():
    prefixes = ["b", "a", "b", "", "a", "b", "b"]
    shards = plan_shards(prefixes, shard_size=3, batch_size=2)
    batches = [batch for shard in shards for batch in shard]
    assert sorted(number for batch in batches for number in batch.numbers) == list(range(7))
    assert all({prefixes[number] for number in batch.numbers} == {batch.prefix} for batch in batches)
    assert max(len(batch.numbers) for batch in batches) == 2
    assert [sum(len(batch.numbers) for batch in shard) for shard in shards] == [3, 3, 1]


def test_a_damaged_question_file_names_the_line(tmp_path):
    from ghosttrack.common.errors import CorruptInputError

    path = tmp_path / "questions.jsonl"
    path.write_text('{"prefix": "", "query": "q", "question": "q", "aliases": []}\n{"prefix": ""}\n')
    with pytest.raises(CorruptInputError, match="line 2"):
        read_questions(path)
