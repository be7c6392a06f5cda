"""The states in which answers were given, and the latents that are active in them."""

from ghosttrack.common.formats.file import File

ANSWER_STATES = File(
    "states.npy",
    "track/answers",
    "float16, or float32 where one number is too large for it or `extract.dtype` is float32 or bfloat16, [n, n_layers, d_model], "
    "block outputs; positions.parquet says whose",
)
ACTIVATIONS = File(
    "feature_activations.pt",
    "track/all",
    "the active latents as a sparse matrix: `torch.sparse_csr_tensor(crow, latent, activation, shape)`, a row a (question, "
    "position, layer) in the order of `question, position` × `layers`",
)
