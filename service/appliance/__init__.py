"""The only room that speaks H4, the appliances' REST API.

`wire`, `polltable`, `exchange`, `classify` and `pace` are pure: bytes and statuses in, values out.
`http` knows aiohttp and nothing of H4, `tls` and `egress` say whom it may talk to. `calls`,
`login`, `client`, `readers`, `inquiry` and `rounds` make one appliance of them, `fleet` keeps
many, `check` looks at one before it is relied on.
"""
