"""Semantic clusters of latents."""

from ghosttrack.common.formats.file import File, Json

CLUSTERS = Json(
    "semantic_clusters.json",
    "track/shown",
    "clusters of latents by decoder direction and promoted tokens: `id, weight, centroid, members` ([layer, latent]), `tokens, "
    "contexts`",
    version=2,
    indent=None,
)
PICKLED_CLUSTERS = File("semantic_clusters.pkl", "track/shown", "the same as plain builtins and numpy arrays")
