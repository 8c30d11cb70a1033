/* libc symbols that take a path or an fd and are deliberately not intercepted: LEFT(name, reason). Included with LEFT
 * defined; tests/meta holds tests/data/symbols.tsv against calls.h and this list. */
