"""`origins.parquet`: where the activation of every node of tracks.parquet came from; the same rows in the same order.

    activation = own + carried + error + bias + Σ moved_<source> + written

`own` is carried through the residual stream from the latent that its track was last seen at (0 at a birth), `carried` from
the other latents of the layer before, `error` from what that layer's SAE leaves out, `moved_<source>` brought by attention
since then from there, `written` by the MLP, `bias` what no input moves. At the first tracked layer `carried` is what enters
the first block. Where a block in between cannot be taken apart, `bias`, `moved_<source>` and `written` are NaN.
"""

from ghosttrack.common.formats.account import SOURCES
from ghosttrack.common.formats.file import Column, Table

SHARES = ("own", "carried", "error", "bias", *(f"moved_{source}" for source in SOURCES), "written")
BIRTHS = ("moved", "written", "split", "error")
"""Moved here by attention, written by the MLP, split from other latents, out of what the SAE left out before."""
ORIGINS = Table(
    "origins.parquet",
    "track/account",
    "the rows of tracks.parquet: shares of the activation by where it came from, which add up to one",
    (
        *(Column(name, "float16") for name in SHARES),
        Column(
            "birth",
            "int8",
            f"what gave most of a node that begins a track, of {', '.join(BIRTHS)}; −1 elsewhere and where that cannot be told",
        ),
    ),
)
