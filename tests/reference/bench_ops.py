"""PyTorch's side of `cargo xtask bench ops --torch`: the cases of crates/backend/benches/ops.rs, same names.

It reads one request a line: `list` gives {"device": name, "cases": [...]}, `run NAME` gives {"seconds": [...],
"peak_memory": bytes}. It ends with its input. With --compile each function is compiled by torch.compile before it is timed; where that
fails the answer is {"problem": "..."}. --accelerator computes on the GPU that torch finds, if it finds one, with torch's own settings: TF32 in
convolutions, not in products.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

AT_LEAST = 0.25
REPETITIONS = 3
FEATURES = (1, 320, 64, 64)
TOKENS = (1, 4096, 320)
MATMUL = 1024
ADAMW_TENSORS = 100
ADAMW_EDGE = 500


def matmul():
    a, b = torch.randn(MATMUL, MATMUL), torch.randn(MATMUL, MATMUL)
    return lambda: a @ b


def conv2d(channels, to, kernel, *size, stride=1):
    x, weight, bias = torch.randn(1, channels, *size), torch.randn(to, channels, kernel, kernel), torch.randn(to)
    return lambda: F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2)


def trained_convolution(batch, channels, edge):
    with torch.inference_mode(False):
        shapes = (batch, channels, edge, edge), (channels, channels, 3, 3), (channels,)
        leaves = [torch.randn(shape, requires_grad=True) for shape in shapes]
    step = trained(leaves, lambda x, weight, bias: F.conv2d(x, weight, bias, padding=1))
    return 3 * 18 * batch * (channels * edge) ** 2, 0, lambda: step


def group_norm_silu():
    x, weight, bias = torch.randn(FEATURES), torch.randn(FEATURES[1]), torch.randn(FEATURES[1])
    return lambda: F.silu(F.group_norm(x, 32, weight, bias, 1e-5), inplace=True)


def trained_group_norm():
    with torch.inference_mode(False):
        leaves = [torch.randn(shape, requires_grad=True) for shape in (FEATURES, FEATURES[1], FEATURES[1])]
    return trained(leaves, lambda x, weight, bias: F.silu(F.group_norm(x, 32, weight, bias, 1e-5)))


def trained(leaves, function):
    def step():
        with torch.inference_mode(False), torch.enable_grad():
            for leaf in leaves:
                leaf.grad = None
            function(*leaves).sum().backward()

    return step


def linear():
    x, weight, bias = torch.randn(TOKENS), torch.randn(1280, TOKENS[2]), torch.randn(1280)
    return lambda: F.linear(x, weight, bias)


def geglu():
    x, weight, bias = torch.randn(TOKENS), torch.randn(2 * 1280, TOKENS[2]), torch.randn(2 * 1280)

    def step():
        values, gate = F.linear(x, weight, bias).chunk(2, -1)
        return values * F.gelu(gate)

    return step


def layer_norm():
    x, weight, bias = torch.randn(TOKENS), torch.ones(TOKENS[2]), torch.zeros(TOKENS[2])
    return lambda: F.layer_norm(x, (TOKENS[2],), weight, bias)


def rms_norm():
    x, weight = torch.randn(TOKENS), torch.ones(TOKENS[2])
    return lambda: F.rms_norm(x, (TOKENS[2],), weight, 1e-5)


def activation(function):
    x = torch.randn(FEATURES)
    return lambda: function(x)


def attention(*shape, keys=None):
    batch, heads, queries, width = shape
    q = torch.randn(shape)
    k, v = (torch.randn(batch, heads, keys or queries, width) for _ in range(2))
    return lambda: F.scaled_dot_product_attention(q, k, v)


def trained_attention():
    with torch.inference_mode(False):
        leaves = [torch.randn(1, 24, 1024, 64, requires_grad=True) for _ in range(3)]
    return trained(leaves, F.scaled_dot_product_attention)


def linear_attention(*shape):
    q, k, v = (torch.randn(shape) for _ in range(3))

    def step():
        phi_q, phi_k = F.elu(q) + 1, F.elu(k) + 1
        total = phi_q @ phi_k.sum(-2, keepdim=True).mT
        return phi_q @ (phi_k.mT @ v) / total

    return step


def interpolate(mode):
    x = torch.randn(FEATURES)
    options = {} if mode == "nearest" else {"align_corners": False}
    return lambda: F.interpolate(x, scale_factor=2, mode=mode, **options)


def shuffle(function):
    x = torch.randn(FEATURES)
    return lambda: function(x, 2)


def max_unpool():
    x, indices = F.max_pool2d(torch.randn(1, FEATURES[1], 2 * FEATURES[2], 2 * FEATURES[3]), 2, return_indices=True)
    return lambda: F.max_unpool2d(x, indices, 2)


def conv_transpose2d(channels, to, kernel, **options):
    groups = options.get("groups", 1)
    x, weight = torch.randn(1, channels, *FEATURES[2:]), torch.randn(channels, to, kernel, kernel)
    bias = torch.randn(to) if groups == 1 else None
    return lambda: F.conv_transpose2d(x, weight, bias, stride=2, padding=1, **options)


def copy():
    # Host memory, whatever the device: what the bytes of other cases are to be compared with.
    source = torch.ones(ADAMW_TENSORS * ADAMW_EDGE**2, device="cpu", dtype=torch.float32)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def adamw_step(**form):
    with torch.inference_mode(False):
        shape = (ADAMW_EDGE, ADAMW_EDGE)
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for _ in range(ADAMW_TENSORS)]
        for parameter in parameters:
            parameter.grad = torch.randn(shape)
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, **form)

    def step():
        with torch.inference_mode(False):
            optimizer.step()

    return step


def cases():
    once = 2 * 4 * torch.Size(FEATURES).numel()

    def convolution(channels, kernel, edge):
        flop = 2 * channels**2 * (kernel * edge) ** 2
        return flop, 0, lambda: conv2d(channels, channels, kernel, edge, edge)

    projection = 2 * 4096 * 320 * 1280
    products = lambda n, heads, d: 4 * n * n * d * heads
    transposed = lambda kernel: 2 * 128 * 64 * 64 * 64 * kernel**2
    adamw = 28 * ADAMW_TENSORS * ADAMW_EDGE**2
    return {
        "matmul [1024,1024]": (2 * MATMUL**3, 0, matmul),
        "conv2d 3x3 320 channels 64x64": convolution(320, 3, 64),
        "conv2d 3x3 640 channels 32x32": convolution(640, 3, 32),
        "conv2d 3x3 1280 channels 16x16": convolution(1280, 3, 16),
        "conv2d 3x3 1280 channels 8x8": convolution(1280, 3, 8),
        "conv2d 3x3 512 channels 64x64": convolution(512, 3, 64),
        "conv2d 3x3 128 channels 256x256": convolution(128, 3, 256),
        "conv2d 1x1 512 channels 64x64": convolution(512, 1, 64),
        "conv2d 7x7 s2 3-64 channels 800x1066": (
            2 * 3 * 64 * 49 * 400 * 533,
            0,
            lambda: conv2d(3, 64, 7, 800, 1066, stride=2),
        ),
        "conv2d 3x3 32 channels 28x28 batch 16, forward and backward": trained_convolution(16, 32, 28),
        "conv2d 3x3 320 channels 64x64, forward and backward": trained_convolution(1, 320, 64),
        "linear 4096x320x1280": (projection, 0, linear),
        "linear 4096x320x1280, GEGLU": (2 * projection, 0, geglu),
        "group_norm_silu [1,320,64,64]": (0, once, group_norm_silu),
        "group_norm_silu [1,320,64,64], forward and backward": (0, 2.5 * once, trained_group_norm),
        "layer_norm [1,4096,320]": (0, once, layer_norm),
        "rms_norm [1,4096,320]": (0, once, rms_norm),
        "silu [1,320,64,64]": (0, once, lambda: activation(F.silu)),
        "gelu [1,320,64,64]": (0, once, lambda: activation(F.gelu)),
        "attention n4096 h8 d40": (products(4096, 8, 40), 0, lambda: attention(1, 8, 4096, 40)),
        "attention n4096 to 77 h8 d40": (
            products(4096, 8, 40) * 77 / 4096,
            0,
            lambda: attention(1, 8, 4096, 40, keys=77),
        ),
        "attention n1024 h24 d64": (products(1024, 24, 64), 0, lambda: attention(1, 24, 1024, 64)),
        "attention n1024 h24 d64, forward and backward": (3.5 * products(1024, 24, 64), 0, trained_attention),
        "linear attention n16384 h8 d64": (4 * 16384 * 64 * 64 * 8, 0, lambda: linear_attention(1, 8, 16384, 64)),
        "interpolate nearest x2 [1,320,64,64]": (0, 2.5 * once, lambda: interpolate("nearest")),
        "interpolate bilinear x2 [1,320,64,64]": (0, 2.5 * once, lambda: interpolate("bilinear")),
        "interpolate bicubic x2 [1,320,64,64]": (0, 2.5 * once, lambda: interpolate("bicubic")),
        "pixel_shuffle x2 [1,320,64,64]": (0, once, lambda: shuffle(F.pixel_shuffle)),
        "pixel_unshuffle x2 [1,320,64,64]": (0, once, lambda: shuffle(F.pixel_unshuffle)),
        "max_unpool2d x2 [1,320,64,64]": (0, 3.5 * once, max_unpool),
        "conv_transpose2d 4x4 s2 p1 128-64 channels 64x64": (transposed(4), 0, lambda: conv_transpose2d(128, 64, 4)),
        "conv_transpose2d 3x3 s2 p1 op1 128-64 channels 64x64": (
            transposed(3),
            0,
            lambda: conv_transpose2d(128, 64, 3, output_padding=1),
        ),
        "conv_transpose2d bilinear x2 depthwise [1,320,64,64]": (
            0,
            2.5 * once,
            lambda: conv_transpose2d(FEATURES[1], 1, 4, groups=FEATURES[1]),
        ),
        "copy 25M": (0, 8 * ADAMW_TENSORS * ADAMW_EDGE**2, copy),
        "adamw_step 25M in 100 (torch: fused)": (0, adamw, lambda: adamw_step(fused=True)),
        "adamw_step 25M in 100 (torch: foreach)": (0, adamw, lambda: adamw_step(foreach=True)),
    }


def seconds_of(operation):
    """Seconds of each repetition, after one that is not counted, the device synchronised inside the timed region."""
    wait = (lambda: None) if torch.get_default_device().type == "cpu" else torch.accelerator.synchronize
    operation()
    wait()
    start = time.perf_counter()
    seconds = []
    while len(seconds) < REPETITIONS or time.perf_counter() - start < AT_LEAST:
        repetition = time.perf_counter()
        operation()
        wait()
        seconds.append(time.perf_counter() - repetition)
    return seconds


def forget_peak():
    """What was needed to make a case's inputs is no part of its memory. Linux alone can forget it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory():
    """The most resident memory so far, in bytes, where the system tells (Linux)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024


DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def device_for(accelerator):
    """The GPU that torch finds where one is asked for; a machine without one has Vulkan's adapters on its CPU."""
    found = torch.accelerator.current_accelerator(check_available=True) if accelerator else None
    return found or torch.device("cpu")


def device_name(device):
    return torch.cuda.get_device_name() if device.type == "cuda" else device.type.upper()


def main(known):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--accelerator", action="store_true")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_default_device(device := device_for(options.accelerator))
    torch.set_default_dtype(DTYPES[options.dtype])
    torch.manual_seed(0)
    # The last one asked for stays: it is asked for several times in a row.
    prepared, operation = None, None
    for request in iter(sys.stdin.readline, ""):
        request = request.strip()
        if request == "list":
            listed = [{"name": name, "flop": flop, "bytes": bytes_} for name, (flop, bytes_, _) in known.items()]
            answer = {"device": device_name(device), "cases": listed}
        else:
            name = request.removeprefix("run ")
            if name not in known:
                sys.exit(f"no case `{name}`")
            if name != prepared:
                operation = None
                prepared, operation = name, known[name][2]()
                operation = torch.compile(operation) if options.compile else operation
                forget_peak()
            try:
                answer = {"seconds": seconds_of(operation), "peak_memory": peak_memory()}
            except Exception as error:
                if not options.compile:
                    raise
                answer = {"problem": str(error).strip().splitlines()[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main(cases())
