"""clip_math behind MLServer; TINY_CLIP_SLEEP_S makes it slow."""
import asyncio
import os

import clip_math
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse


class Clip(MLModel):
    async def load(self):
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        await asyncio.sleep(float(os.environ.get("TINY_CLIP_SLEEP_S", "0")))
        given = payload.inputs[0]
        if given.name == "text":
            texts = StringCodec.decode_input(given)
            if any("unembeddable" in t for t in texts):
                raise InferenceError("this text is not for me")  # a 400
            rows = clip_math.text_rows(texts)
        else:
            rows = clip_math.image_rows(NumpyCodec.decode_input(given))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("embedding", rows)])
