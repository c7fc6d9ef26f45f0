"""llama.cpp's own HTTP server, as the package xllamacpp carries it. Usage: llama_server.py chat|embed FOLDER PORT"""
import sys
import threading

import xllamacpp

kind, folder, port = sys.argv[1:]
params = xllamacpp.CommonParams()
if kind == "chat":
    params.model.path = f"{folder}/language.gguf"
    params.mmproj.path = f"{folder}/vision.gguf"
else:
    params.model.path = f"{folder}/embedder.gguf"
    params.embedding = True
params.model_alias = {"tiny"}
params.api_keys = ["secret of the test"]
params.port = int(port)
params.n_ctx = 4096
params.n_ubatch = params.n_batch = 2048
params.n_parallel = 2
params.cpuparams.n_threads = 1
params.warmup = False
server = xllamacpp.Server(params)
threading.Event().wait()
