# SPDX-License-Identifier: Apache-2.0
"""Export a trained network: inference as StableHLO, or weights under PyTorch's names.

StableHLO: a program of any batch size, its weights, labels.txt and export.json. It takes pictures as they are
stored (uint8, [batch, height, width, channels] of the size in export.json); normalisation is part of it. A
classifier gives `logits` and `probabilities`, an autoencoder `recon` (0..1) and `latent`. The files are read again
and compared with the live network. To use them, without this project:

    import numpy as np
    from jax import export
    from safetensors.numpy import load_file
    network = export.deserialize(bytearray(open("DIR/network.stablehlo", "rb").read()))
    outputs = network.call(load_file("DIR/weights.safetensors"), np.zeros((1, HEIGHT, WIDTH, CHANNELS), np.uint8))

safetensors: model.safetensors, which PyTorch's load_state_dict takes and 'run.py import-weights' reads back.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make; it must not be there yet")
    parser.add_argument(
        "--format", default="stablehlo", choices=("stablehlo", "safetensors"), help="default: stablehlo"
    )
    parser.add_argument(
        "--checkpoint", default="latest", metavar="STEP", help="latest (default), best (on validation) or a step"
    )
    parser.add_argument(
        "--platforms", metavar="NAMES", help="stablehlo: of cpu, cuda, rocm, tpu (default: cpu,cuda,tpu)"
    )
    parser.add_argument(
        "--names",
        metavar="NAMES",
        help="safetensors: whose names the arrays get (default: the usual ones of the network)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the folder and prints what lies in it, and how it compares."""
    from pathlib import Path

    from cnnjax import devices, export
    from cnnjax.errors import UsageError
    from cnnjax.experiment import load_network
    from cnnjax.report.table import format_bytes

    if args.names is not None and args.format != "safetensors":
        raise UsageError("--names is for --format=safetensors")
    if args.platforms is not None and args.format != "stablehlo":
        raise UsageError("--platforms is for --format=stablehlo")
    platforms = export.find_platforms(args.platforms or "cpu,cuda,tpu")
    devices.use_compilation_cache()
    out = Path(args.out).expanduser()
    with export.new_folder(out) as folder:
        network = load_network(args.workdir, args.checkpoint, args.overrides)
        compared = ""
        if args.format == "stablehlo":
            differences = export.export_stablehlo(network, folder, platforms)
            compared = _verdict(differences)
        else:
            export.export_safetensors(network, folder, args.names or "")
    files = [f"{path}  {format_bytes(path.stat().st_size)}" for path in sorted(out.iterdir())]
    print("\n".join([f"{network.config.model.name}, step {network.step}", *files, *([compared] if compared else [])]))
    return 0


def _verdict(differences: dict[int, float] | None) -> str:
    if differences is None:
        return "not compared with the live network: this machine has none of the platforms"
    sizes = ", ".join(f"{difference:.2g} at batch size {size}" for size, difference in differences.items())
    return f"read again and compared with the live network; largest difference {sizes}"
