"""What goes out: instances and frames, as received or in the form a receiver can read.

The way of a request, from the outside to the inside:

- `retrieve`: what services ask; `exporting`, `searching` (with `matching`) ask it, too
- `making`: whole instances; `framing`: single frames and pictures; both ask `kept` first (with `cache` on disk)
- `asheld` (with `passing`): code streams that go out as they are; `transcoding`: what makes the others (with `checks`)
- `holding`: which stored form is opened (with `places`, `cost`); what is in memory from its arrival: `arrived`
- `opened`, `rebuild`, `seriespack`: reading packs and landed files; `shelf`: what is known of those read lately

Beside it: `choosing` among transfer syntaxes, `foresight` (what a reader will ask for next), `ahead` (the next ones of
one long answer), `reads` (what was read, for policies), `restoring` (from archive classes).
"""
