"""Cases of training, for tests/cases: a few steps of a tiny UNet2DModel, and what comes out.

    python tests/reference/training.py

writes tests/cases/train_unet2d_*. Weights are stored in f16 and computed with in f32. Made with torch 2.15.0 and
diffusers 0.42.1.
"""

import torch
from diffusers import DDPMScheduler, UNet2DModel

from _cases import randomise, save

TINY = dict(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(8, 16),
    norm_num_groups=4,
    layers_per_block=1,
    attention_head_dim=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    # Not to be applied: a case is computed in evaluation mode.
    dropout=0.3,
)
STEPS, BATCH = 3, 2

# name: (request, keywords of the scheduler)
CASES = {
    # Adam's decay is a part of the gradient, and AdamW's is not.
    "train_unet2d_adam_cosine": (
        dict(optimizer="Adam", learning_rate=2e-3, betas=[0.8, 0.95], epsilon=1e-6, weight_decay=0.1),
        dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100),
    ),
    "train_unet2d_scaled_linear": (
        dict(optimizer="AdamW", learning_rate=1e-3, betas=[0.9, 0.99], epsilon=1e-8, weight_decay=0.2),
        dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000),
    ),
}


def main():
    for seed, (case, (request, schedule)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = randomise(UNet2DModel(**TINY), seed)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        scheduler = DDPMScheduler(**schedule)
        steps = schedule["num_train_timesteps"]
        inputs = {
            "clean": torch.randn(STEPS, BATCH, 1, 8, 8),
            "noise": torch.randn(STEPS, BATCH, 1, 8, 8),
            "timesteps": torch.randint(0, steps, (STEPS, BATCH)),
            "sample": torch.randn(BATCH, 1, 8, 8),
            "timestep": torch.tensor([steps // 3, steps - 1]),
        }
        numbers = dict(lr=request["learning_rate"], betas=request["betas"], eps=request["epsilon"])
        optimizer = getattr(torch.optim, request["optimizer"])(
            model.parameters(), weight_decay=request["weight_decay"], **numbers
        )
        losses = []
        for clean, noise, times in zip(inputs["clean"], inputs["noise"], inputs["timesteps"]):
            noisy = scheduler.add_noise(clean, noise, times)
            loss = torch.nn.functional.mse_loss(model(noisy, times).sample, noise)
            losses.append(loss.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            outputs = {"losses": torch.stack(losses), "sample": model(inputs["sample"], inputs["timestep"]).sample}
        model.load_state_dict(before)
        save(case, model, inputs, outputs, request | schedule | dict(train_steps=STEPS, loss="mse of the noise"))


if __name__ == "__main__":
    main()
