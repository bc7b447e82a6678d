"""An engine as Ray Serve runs one, without a model: for the launcher's suite on Ray itself."""

from typing import Any

from fastapi import FastAPI
from ray import serve

api = FastAPI()


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Engine:
    def __init__(self, model: str, dies: bool) -> None:
        self.model = model
        print(f"loading the weights of {model}", flush=True)
        if dies:
            raise RuntimeError("CUDA out of memory. Tried 2.00 GiB")
        print("Application startup complete.", flush=True)

    @api.get("/v1/models")
    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.model}]}


def build(args: dict[str, Any]) -> serve.Application:
    return Engine.bind(args["model"], args["dies"])
