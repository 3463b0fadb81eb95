"""The only room that speaks H4, the appliances' REST API.

`wire`, `polltable`, `exchange`, `classify` and `pace` are pure: bytes and statuses in, values out.
`http` is the client, which knows nothing of H4: `letterhead` writes requests and `answer` reads
answers, both pure, `connection` makes a call, `pool` and `dialing` provide connections, `secured`
is the TLS on their sockets, `tls` and `egress` say whom they may talk to, `resolving` asks the DNS.
`conditions` chooses them, and nothing else does any I/O but `examination`, which looks at addresses
and certificates by itself.
`calls`, `breaker`, `login`, `gate`, `vain`, `client`, `readers`, `inquiry`, `rounds` and `tasklist`
make one appliance of them, in which `turns`, `expiry` and `owned` say who waits and what is owned;
`limits` bounds it all. `fleet` and `breakers` keep many. `check` looks at one before it is relied
on; `examination` is what it looks at.
"""
