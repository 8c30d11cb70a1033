"""Training that fetches the next epoch while this one runs.  python3 next_epoch.py FOLDER [EPOCHS]   (below `prelux run`)

The order of an epoch is made from its number, so the next one's is known beforehand. With PyTorch the files go through its DataLoader, without it
through a plain loop. Where the cache holds less than an epoch, AHEAD files of the next one are fetched, no more: they would push out what is needed first."""

import os
import random
import sys

import prelux

try:
    from torch.utils.data import DataLoader, Dataset
except ImportError:
    DataLoader = None
    Dataset = object

AHEAD = 10000


def order(paths, epoch):
    """The same for whoever asks."""
    mixed = list(paths)
    random.Random(epoch).shuffle(mixed)
    return mixed


class Files(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, at):
        with open(self.paths[at], "rb") as file:
            return len(file.read())  # a tensor, in earnest


def batches(dataset):
    if DataLoader:
        yield from DataLoader(dataset, batch_size=32, num_workers=2)  # the order is the epoch's: no sampler
    else:
        for at in range(0, len(dataset), 32):
            yield [dataset[i] for i in range(at, min(at + 32, len(dataset)))]


def there(ahead, wanted):
    """What could not be fetched is read from the remote, or fails, when training comes to it: no reason to end here."""
    try:
        return f"{ahead.result()['cached']} of {wanted} were there"
    except prelux.Error as error:
        failures = (error.answer or {}).get("failures", [])
        return "; ".join([str(error), *(f"{failure['path']}: {failure['cause']}" for failure in failures[:3])])


def train(folder, epochs):
    paths = sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    ahead = prelux.prefetch_ahead(order(paths, 0)[:AHEAD])
    for epoch in range(epochs):
        began, ahead = ahead, prelux.prefetch_ahead(order(paths, epoch + 1)[:AHEAD]) if epoch + 1 < epochs else None
        total = sum(int(sum(batch)) for batch in batches(Files(order(paths, epoch))))
        print(f"epoch {epoch}: {len(paths)} files, {total} bytes, {there(began, min(len(paths), AHEAD))}", flush=True)


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
