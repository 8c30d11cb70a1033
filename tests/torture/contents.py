"""Contents that say themselves which version of which name they are: no two are alike, and a part of one is none."""

# Also part of programs that are given as text.
CONTENT = '''
def content(name, number, size):
    head = f"{name} {number} {size}\\n".encode()
    block = (f"{name}.{number}|" * 4096).encode()[:65536]
    return (head + block * (max(0, size - len(head)) // len(block) + 1))[:size]
'''
exec(CONTENT)  # pylint: disable=exec-used
