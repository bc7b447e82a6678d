"""The Ray Serve application of a pair: each model a deployment, behind one OpenAI-compatible ingress.

It is Ray's own `build_openai_app` (Ray 2.60) with one addition: an engine of it loads the plugin
that its `tool_parser_plugin` names, as vLLM's own server does and Ray's does not. Started by the
file that ray-config.ts renders (`import_path: app:build`), with this folder on PYTHONPATH.

What the ingress has: /v1/models, /v1/chat/completions, /v1/completions, /v1/embeddings,
/tokenize, /detokenize. What it has not, and the gateway therefore does itself: /v1/messages,
/v1/responses, any key. It answers /-/healthz before its engines are ready: readiness is RUNNING at
the dashboard's /api/serve/applications/.
"""

from typing import Any

from ray.serve import Application
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.llm.deployment import LLMServer


class Engine(LLMServer):
    """One replica of one model."""

    async def __init__(self, llm_config: LLMConfig, **options: Any) -> None:
        # In this process, before the engine looks its parser up by name.
        load_tool_parser(llm_config.engine_kwargs.get("tool_parser_plugin"))
        await super().__init__(llm_config, **options)


def load_tool_parser(path: str | None) -> None:
    """Registers the parsers of a file with vLLM; of no file, none."""
    if not path:
        return
    from vllm.tool_parsers import ToolParserManager

    ToolParserManager.import_tool_parser(path)


def build(args: dict[str, Any]) -> Application:
    """The application of `args.llm_configs`; Ray calls it with what the file says under `args`."""
    configs = [LLMConfig.model_validate({"server_cls": Engine, **each}) for each in args["llm_configs"]]
    return build_openai_app({"llm_configs": configs})
