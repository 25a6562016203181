"""PvaPy: the processor of a ``pvapy-hpc-consumer``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pvaccess as pva
from encoder import open_encoder
from pvapy.hpc.userDataProcessor import UserDataProcessor


class Encoder(UserDataProcessor):
    """Images of a PV in, latents in another."""

    def __init__(self, configDict: dict[str, Any] | None = None) -> None:
        UserDataProcessor.__init__(self, configDict or {})
        self.encode = open_encoder()

    def getOutputPvObjectType(self, _: Any) -> Any:
        """Return the structure of the answers."""
        return pva.PvObject({"uniqueId": pva.LONG, "value": [pva.FLOAT]})

    def process(self, pvObject: Any) -> Any:
        """Encode one message and publish the answer."""
        latents = self.encode(np.asarray(pvObject["value"], np.float32).reshape(-1, 8, 8))
        answer = self.getOutputPvObjectType(None)
        answer["uniqueId"], answer["value"] = pvObject["uniqueId"], latents.reshape(-1)
        self.updateOutputChannel(answer)
        return answer
