"""Models of pictures in PyTorch, from their papers: PixelCNN, gated PixelCNN, PixelRNN's two LSTMs, PixelCNN++.

Conventions as in `_autoregressive_vectors.py`; samples are [channels, height, width] flattened. No program of its own: see
`autoregressive_twin.py`. Made with torch 2.15.0.
"""

import torch
import torch.nn.functional as F
from torch import nn

import _autoregressive_families as families
from _autoregressive_vectors import Given, Model


class MaskedConv2d(nn.Module):
    """Sees what lies above and on the left, and at its own pixel the channels before its own, or its own too."""

    def __init__(self, inputs, outputs, kernel, own, groups, repeats=1):
        super().__init__()
        rows, columns = kernel
        self.padding = rows // 2, columns // 2
        self.conv = nn.Conv2d(inputs, outputs * repeats, kernel)
        of_input = torch.arange(inputs) * groups // inputs
        of_output = (torch.arange(outputs) * groups // outputs).repeat(repeats)
        centre = of_input[None] <= of_output[:, None] if own else of_input[None] < of_output[:, None]
        mask = torch.zeros_like(self.conv.weight)
        mask[:, :, : rows // 2] = 1
        mask[:, :, rows // 2, : columns // 2] = 1
        mask[:, :, rows // 2, columns // 2] = centre.float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return F.conv2d(x, self.conv.weight * self.mask, self.conv.bias, padding=self.padding)


class Picture(Model):
    def __init__(self, config):
        canvas = config["canvas"]
        super().__init__(config | {"family": canvas["family"]})
        self.size = canvas["channels"], canvas["height"], canvas["width"]
        self.groups = canvas["channels"] // canvas["family"].get("channels", 1)

    def conv(self, inputs, outputs, kernel=(1, 1), own=True, repeats=1):
        return MaskedConv2d(inputs, outputs, kernel, own, self.groups, repeats)

    def ends(self, features):
        return nn.ModuleList([self.conv(features, features), self.conv(features, self.groups * self.width)])

    def forward(self, x, given):
        y = self.network(families.shown(self.family, x).unflatten(1, self.size), given)
        return y.unflatten(1, (self.groups, self.width)).flatten(3).transpose(2, 3).flatten(1, 2)


class PixelCnn(Picture):
    def __init__(self, config):
        super().__init__(config)
        features, side = config["features"], config["kernel"]
        self.input = self.conv(self.size[0], features, (side, side), own=False)
        self.blocks = nn.ModuleList()
        for _ in range(config["blocks"]):
            block = nn.Module()
            block.reduce = self.conv(features, features // 2)
            block.conv = self.conv(features // 2, features // 2, (3, 3))
            block.expand = self.conv(features // 2, features)
            block.given = Given(config["given"], features)
            self.blocks.append(block)
        self.outputs = self.ends(features)

    def network(self, x, given):
        h = self.input(x)
        for block in self.blocks:
            h = h + block.given.everywhere(given)
            h = h + block.expand(block.conv(block.reduce(h.relu()).relu()).relu())
        return self.outputs[1](self.outputs[0](h.relu()).relu())


def gated(y):
    value, gate = y.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


class GatedPixelCnn(Picture):
    def __init__(self, config):
        super().__init__(config)
        features = config["features"]
        self.layers = nn.ModuleList()
        for index in range(config["layers"] + 1):
            layer = nn.Module()
            side = config["kernel"] if index else config["first_kernel"]
            inputs = features if index else self.size[0]
            layer.vertical = nn.Conv2d(inputs, 2 * features, (max(side // 2 + (index > 0), 1), side))
            layer.across = nn.Conv2d(2 * features, 2 * features, 1)
            layer.horizontal = self.conv(inputs, features, (1, side), own=index > 0, repeats=2)
            layer.out = self.conv(features, features)
            layer.given_vertical = Given(config["given"], 2 * features)
            layer.given_horizontal = Given(config["given"], 2 * features)
            self.layers.append(layer)
        self.outputs = self.ends(features)

    def network(self, x, given):
        v = h = x
        for index, layer in enumerate(self.layers):
            rows, columns = layer.vertical.kernel_size
            # The first reads a row late, and so never its own; the others have read no further than their input.
            above = rows if index == 0 else rows - 1
            down = layer.vertical(F.pad(v, (columns // 2, columns // 2, above, 0)))[:, :, : self.size[1]]
            across = layer.horizontal(h) + layer.across(down) + layer.given_horizontal.everywhere(given)
            v = gated(down + layer.given_vertical.everywhere(given))
            y = layer.out(gated(across))
            h = h + y if index else y
        return self.outputs[1](self.outputs[0](h.relu()).relu())


def skewed(x):
    """Each row a column further to the right than the one above."""
    height = x.shape[2]
    return torch.stack([F.pad(x[:, :, row], (row, height - 1 - row)) for row in range(height)], 2)


def unskewed(x, width):
    return torch.stack([x[:, :, row, row : row + width] for row in range(x.shape[2])], 2)


class PixelRnn(Picture):
    def __init__(self, config):
        super().__init__(config)
        hidden, side = config["hidden"], config["kernel"]
        self.by_row = config["recurrence"] == "row_lstm"
        of_input, of_state = ((1, 3), (1, 3)) if self.by_row else ((1, 1), (2, 1))
        self.input = self.conv(self.size[0], 2 * hidden, (side, side), own=False)
        self.layers = nn.ModuleList()
        for _ in range(config["layers"]):
            layer = nn.Module()
            layer.lstms = nn.ModuleList()
            for _ in range(1 if self.by_row else 2):
                lstm = nn.Module()
                lstm.input_to_state = self.conv(2 * hidden, hidden, of_input, repeats=4)
                lstm.state_to_state = nn.Conv2d(hidden, 4 * hidden, of_state, bias=False)
                layer.lstms.append(lstm)
            layer.out = self.conv(hidden, 2 * hidden)
            self.layers.append(layer)
        self.outputs = self.ends(2 * hidden)
        self.given = Given(config["given"], 2 * hidden)

    def states(self, lstm, gates):
        """Along the rows of gates, [batch, 4 hidden, lines, places of a line]."""
        weight = lstm.state_to_state.weight
        # Of the row above, three beside each other; on a diagonal the place above and the own: two.
        weight = weight if self.by_row else weight.transpose(2, 3)
        sides = (1, 1) if self.by_row else (1, 0)
        cell = state = None
        found = []
        for line in gates.unbind(2):
            if state is not None:
                line = line + F.conv1d(F.pad(state, sides), weight[:, :, 0])
            o, f, i, g = line.chunk(4, 1)
            cell = i.sigmoid() * g.tanh() + (0 if cell is None else f.sigmoid() * cell)
            state = o.sigmoid() * cell.tanh()
            found.append(state)
        return torch.stack(found, 2)

    def diagonal(self, lstm, x):
        gates = skewed(lstm.input_to_state(x)).transpose(2, 3)
        return unskewed(self.states(lstm, gates).transpose(2, 3), x.shape[3])

    def network(self, x, given):
        h = self.input(x) + self.given.everywhere(given)
        for layer in self.layers:
            if self.by_row:
                states = self.states(layer.lstms[0], layer.lstms[0].input_to_state(h))
            else:
                from_right = self.diagonal(layer.lstms[1], h.flip(3)).flip(3)
                states = self.diagonal(layer.lstms[0], h) + F.pad(from_right, (0, 0, 1, -1))
            h = h + layer.out(states)
        return self.outputs[1](self.outputs[0](h.relu()).relu())


class Shifted(nn.Module):
    """Reaches up, and to both sides or to the left."""

    def __init__(self, inputs, outputs, kernel, sides, stride=1):
        super().__init__()
        self.padding = (*sides, kernel[0] - 1, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride)

    def forward(self, x):
        return self.conv(F.pad(x, self.padding))


class Unshifted(nn.Module):
    def __init__(self, features, kernel):
        super().__init__()
        self.conv = nn.ConvTranspose2d(features, features, kernel, stride=2)

    def forward(self, x, size):
        left = (self.conv.kernel_size[1] - 1) // 2
        return self.conv(x)[:, :, : size[0], left : left + size[1]]


def both_signs(x):
    return F.elu(torch.cat([x, -x], 1))


STREAMS = ((2, 3), (1, 1)), ((2, 2), (1, 0))


class Residual(nn.Module):
    def __init__(self, features, stream, skips, dropout, given):
        super().__init__()
        self.first = Shifted(2 * features, features, *STREAMS[stream])
        if skips:
            self.skip = nn.Conv2d(2 * skips * features, features, 1)
        self.second = Shifted(2 * features, 2 * features, *STREAMS[stream])
        self.dropout = nn.Dropout(dropout)
        self.given = Given(given, 2 * features)

    def forward(self, x, others, given):
        c = self.first(both_signs(x))
        if others:
            c = c + self.skip(both_signs(torch.cat(others, 1)))
        c = self.second(self.dropout(both_signs(c))) + self.given.everywhere(given)
        value, gate = c.chunk(2, 1)
        return x + value * gate.sigmoid()


class PixelCnnPlusPlus(Picture):
    def __init__(self, config):
        super().__init__(config)
        features, blocks, halvings = config["features"], config["blocks"], config["halvings"]
        inputs = self.size[0] + 1
        self.u_start = Shifted(inputs, features, (2, 3), (1, 1))
        self.ul_start_above = Shifted(inputs, features, (1, 3), (1, 1))
        self.ul_start_left = Shifted(inputs, features, (2, 1), (0, 0))

        def stage(blocks, skips):
            stage = nn.Module()
            for stream, name in enumerate(("u", "ul")):
                made = [Residual(features, stream, skips[stream], config["dropout"], config["given"]) for _ in range(blocks)]
                setattr(stage, name, nn.ModuleList(made))
            return stage

        self.there = nn.ModuleList(stage(blocks, (0, 1)) for _ in range(halvings + 1))
        self.back = nn.ModuleList(stage(blocks + (i > 0), (1, 2)) for i in range(halvings + 1))
        halve = [[Shifted(features, features, *stream, stride=2) for stream in STREAMS] for _ in range(halvings)]
        double = [[Unshifted(features, kernel) for kernel, _ in STREAMS] for _ in range(halvings)]
        self.halve = nn.ModuleList(nn.ModuleList(both) for both in halve)
        self._modules["double"] = nn.ModuleList(nn.ModuleList(both) for both in double)
        self.output = nn.Conv2d(features, self.width, 1)

    def network(self, x, given):
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        u = F.pad(self.u_start(x), (0, 0, 1, -1))
        ul = F.pad(self.ul_start_above(x), (0, 0, 1, -1)) + F.pad(self.ul_start_left(x), (1, -1))
        kept = [(u, ul)]
        for index, stage in enumerate(self.there):
            for of_u, of_ul in zip(stage.u, stage.ul):
                u = of_u(u, [], given)
                ul = of_ul(ul, [u], given)
                kept.append((u, ul))
            if index < len(self.halve):
                u, ul = self.halve[index][0](u), self.halve[index][1](ul)
                kept.append((u, ul))
        kept.pop()
        for index, stage in enumerate(self.back):
            for of_u, of_ul in zip(stage.u, stage.ul):
                u_there, ul_there = kept.pop()
                u = of_u(u, [u_there], given)
                ul = of_ul(ul, [u, ul_there], given)
            if index < len(self.halve):
                # `self.double` is what turns a module into one of f64.
                of_u, of_ul = self._modules["double"][index]
                size = kept[-1][0].shape[2:]
                u, ul = of_u(u, size), of_ul(ul, size)
        return self.output(F.elu(ul))
