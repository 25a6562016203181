"""The wafer: chip words to charges, charges to images, latents to link bits, EMD of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from sluice.kernels import wafer
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Array, Column, Schema
from sluice.pipeline.inference.repository import Model, find_model
from sluice.pipeline.inference.session import DEFAULT, Session, open_session

WORDS = Column("words", "uint32", (wafer.WORDS,), "link words")
CHARGE = Column("charge", "float32", (wafer.CELLS,), "ADC")
CHARGE_SUM = Column("charge_sum", "float32", unit="ADC")
IMAGE = Column("image", "float32", wafer.GRID)
LATENT = Column("latent", "float32", (wafer.LATENTS,))
LATENT_Q = Column("latent_q", "float32", (wafer.LATENTS,))
SUM_Q = Column("sum_q", "float32", unit="ADC")
STATUS = Column("status", "uint8")

#: Bits of one cell on the front-end link.
CODE_BITS = 7

_REASONS = {wafer.NOT_FINITE: "charge is not finite", wafer.NEGATIVE: "charge is negative"}


class Unpack:
    """Unpacks twelve words of the front-end chip to 48 charges."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    consumes = Schema((WORDS,))
    provides = finite_columns = Schema((CHARGE,))
    status_columns = Schema()

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate the charges."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `charge`."""
        (charge,) = self._pool.arrays(batch.events)
        wafer.unpack(batch["words"], charge)
        return batch.with_columns(charge=charge)

    def enqueue(self, columns: Mapping[str, Any], stream: int) -> None:
        """Queue the kernels of `process` on a CUDA stream."""
        from sluice.kernels.cuda import wafer as on_device

        on_device.unpack(columns["words"], columns["charge"], stream=stream)

    def check(self, batch: EventBatch, status: Mapping[str, Array]) -> EventBatch:
        """Return the batch unchanged: any words are valid."""
        return batch

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Normalise:
    """Computes the encoder's 8×8 image and the sum of 48 charges; none may be negative or NaN."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    consumes = Schema((CHARGE,))
    provides = finite_columns = Schema((IMAGE, CHARGE_SUM))
    status_columns = Schema((STATUS,))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate images, sums and the status of each event."""
        self._pool = OutputBuffers(Schema((*self.provides, *self.status_columns)), events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `image` and `charge_sum`, invalid events flagged."""
        image, charge_sum, status = self._pool.arrays(batch.events)
        bad = wafer.normalise(batch["charge"], image, charge_sum, status)
        batch = batch.with_columns(image=image, charge_sum=charge_sum)
        return self.check(batch, {STATUS.name: status}) if bad else batch

    def enqueue(self, columns: Mapping[str, Any], stream: int) -> None:
        """Queue the kernels of `process` on a CUDA stream; they also write a status for `check`."""
        from sluice.kernels.cuda import wafer as on_device

        on_device.normalise(
            columns["charge"], columns["image"], columns["charge_sum"], columns[STATUS.name],
            stream=stream,
        )  # fmt: skip

    def check(self, batch: EventBatch, status: Mapping[str, Array]) -> EventBatch:
        """Return the batch with the events flagged whose charge is negative or not finite."""
        for code, reason in _REASONS.items():
            batch = batch.flag(self.name, reason, np.flatnonzero(status[STATUS.name] == code))
        return batch

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Pack:
    """Packs latents and module sum into link bits, and unpacks them as the receiver does."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Link format."""

        #: Bits per latent: 3, 5, 7 or 9 for 2, 3, 4 or 5 eLinks.
        bits: Annotated[int, Meta(ge=1, le=16)] = 9

    consumes = Schema((LATENT, CHARGE_SUM))
    finite_columns = Schema((LATENT_Q, SUM_Q))
    status_columns = Schema()

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.bits = options.bits
        packed = Column("packed", "uint8", (wafer.packed_bytes(self.bits),), "link bits")
        self.provides = Schema((packed, LATENT_Q, SUM_Q))

    def open(self, events: int) -> None:
        """Allocate the frames and the values read back."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `packed`, `latent_q` and `sum_q`."""
        packed, latent_q, sum_q = self._pool.arrays(batch.events)
        wafer.quantise_pack(
            batch["latent"], batch["charge_sum"], self.bits, packed, latent_q, sum_q
        )
        return batch.with_columns(packed=packed, latent_q=latent_q, sum_q=sum_q)

    def enqueue(self, columns: Mapping[str, Any], stream: int) -> None:
        """Queue the kernels of `process` on a CUDA stream."""
        from sluice.kernels.cuda import wafer as on_device

        on_device.quantise_pack(
            columns["latent"], columns["charge_sum"], self.bits, columns["packed"],
            columns["latent_q"], columns["sum_q"], stream=stream,
        )  # fmt: skip

    def check(self, batch: EventBatch, status: Mapping[str, Array]) -> EventBatch:
        """Return the batch unchanged: any latents can be packed."""
        return batch

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def report(self, events: int) -> dict[str, dict[str, int]]:
        """Return the number of bits before and after compression, for the run report."""
        bits_in = wafer.CELLS * CODE_BITS
        bits_out = wafer.packed_bits(self.bits)
        return {"compression": {"bits_in": events * bits_in, "bits_out": events * bits_out}}


class Emd:
    """Loss of the compression: EMD between a wafer and its decoded image, by a surrogate model.

    The distance is Euclidean between unit hexagon coordinates; both images are normalised to a
    sum of one, so that lost total charge does not show. Wafers without charge have no EMD.

    References
    ----------
    Differentiable Earth mover's distance for data compression at the HL-LHC,
    Mach. Learn.: Sci. Technol. 4 (2023) 045058.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """The models, and the sampled fraction."""

        decoder: str
        surrogate: str = "wafer-emd"
        sample: Annotated[float, Meta(ge=0, le=1)] = 0.01
        backend: str = DEFAULT

    consumes = Schema((CHARGE, CHARGE_SUM, LATENT_Q))
    metric = "sluice_emd"

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.sample = options.sample
        self.labels = {"codec": options.decoder}
        self._backend = options.backend
        self._decoder = find_model(options.decoder)
        self._surrogate = find_model(options.surrogate)
        self._expect(self._decoder, {"latent_q"}, {"fraction"})
        self._expect(self._surrogate, {"p", "q"}, {"emd"})

    def models(self) -> tuple[tuple[Model, str], ...]:
        """Return decoder and surrogate, with the backend."""
        return ((self._decoder, self._backend), (self._surrogate, self._backend))

    def open(self, events: int) -> None:
        """Load both models."""
        where = f"monitor {self.name!r}"
        self._decode: Session = open_session(self._decoder, self._backend, where)
        self._distance: Session = open_session(self._surrogate, self._backend, where)

    def observe(self, batch: EventBatch) -> Array:
        """Return the EMD of each event, float32, in unit hexagon distances."""
        total = batch["charge_sum"]
        p = batch["charge"] / np.where(total > 0, total, np.float32(1))[:, None]
        q, emd = np.empty_like(p), np.empty(batch.events, np.float32)
        self._decode.infer({"latent_q": batch["latent_q"]}, {"fraction": q})
        self._distance.infer({"p": p, "q": q}, {"emd": emd})
        emd[total <= 0] = np.nan
        return emd

    def close(self) -> None:
        """Free both models."""
        self._decode.close()
        self._distance.close()

    def _expect(self, model: Model, inputs: set[str], outputs: set[str]) -> None:
        got = {t.name for t in model.manifest.inputs}, {t.name for t in model.manifest.outputs}
        if got != (inputs, outputs):
            raise ConfigError(
                f"monitor {self.name!r}: model {model.label}: expected inputs {sorted(inputs)} and "
                f"outputs {sorted(outputs)}, got {sorted(got[0])} and {sorted(got[1])}"
            )


STAGES = {"unpack": Unpack, "normalise": Normalise, "pack": Pack}
MONITORS = {"emd": Emd}
