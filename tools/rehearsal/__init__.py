"""An Azure ML workspace on the loopback: the unmodified SDK submits to it, and jobs run on this machine's engine.

service.py starts and stops it. app.py puts the routes (routes/) before the parts of the workspace (workspace.py), which
keep what they know in store.py. jobs.py runs what was submitted. docs/rehearsal.md says what each answer rests on.
"""
