"""The only room that speaks H4, the appliances' REST API.

`wire`, `polltable`, `exchange`, `classify` and `pace` are pure: bytes and statuses in, values out.
`http` is the client, which knows nothing of H4: `letterhead` writes requests and `answer` reads
answers, both pure, `connection` makes a call, `pool` and `dialing` provide connections, `tls` and
`egress` say whom they may talk to. `conditions` chooses them, and nothing else does any I/O.
`calls`, `breaker`, `login`, `gate`, `client`, `readers`, `inquiry`, `rounds` and `tasklist` make
one appliance of them, `fleet` and `breakers` keep many, `check` looks at one before it is relied
on.
"""
