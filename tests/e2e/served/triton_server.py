"""clip_math behind NVIDIA's Triton Inference Server, on the CPU: triton_server.py HTTP_PORT FOLDER.

The server's binary comes in the wheel of nvidia-pytriton, which connects it with the functions below. Two models, one a tower:
Triton wants every input of a model in every request. FOLDER is where it keeps its own files.
"""
import pathlib
import socket
import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

sys.path.insert(0, str(pathlib.Path(__file__).parent / "clip"))
import clip_math  # noqa: E402


@batch
def embed_images(image):
    return {"embedding": clip_math.image_rows(image)}


@batch
def embed_texts(text):
    return {"embedding": clip_math.text_rows([row[0].decode() for row in text])}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


config = TritonConfig(http_address="127.0.0.1", http_port=int(sys.argv[1]), grpc_address="127.0.0.1", grpc_port=free_port(), allow_metrics=False)
embedding = [Tensor(name="embedding", dtype=np.float32, shape=(clip_math.DIM,))]
with Triton(config=config, workspace=sys.argv[2]) as triton:
    triton.bind(model_name="tiny-clip", infer_func=embed_images, outputs=embedding, config=ModelConfig(max_batch_size=16),
                inputs=[Tensor(name="image", dtype=np.float32, shape=(3, clip_math.SIZE, clip_math.SIZE))])
    triton.bind(model_name="tiny-clip-text", infer_func=embed_texts, outputs=embedding, config=ModelConfig(max_batch_size=16),
                inputs=[Tensor(name="text", dtype=bytes, shape=(1,))])
    triton.serve()
