"""The only room that speaks H4, the appliances' REST API. From the wire up:

- `exchange` is one call and its outcome, as values. `wire` and `polltable` read and write H4's
  JSON, `classify` says what an outcome means, `pace` when to poll. All of these are pure.
- `http` is the HTTPS client, which knows nothing of H4. `requestwriter` writes requests and
  `answer` reads answers, both pure; `connection` makes a call, `pool` keeps connections, `dialing`
  opens them, `tlssocket` is the TLS on their sockets, `tls` and `egress` say whom they may talk
  to, `resolving` asks the DNS. Nothing else does any I/O, but `examination`.
- `calls` is what every call to one appliance passes, its `breaker` included.
  `login` keeps the session, `gate` says who may log in, `unauthorized` what a 401 means.
- `client` is all that may be asked of one appliance. `readers` shares reads among those who ask at
  once; `rounds`, `inquiry` and `tasklist` ask about tasks. `background` has the tasks that it
  runs by itself; `conditions` and `limits` are what it is given.
- `fleet` keeps the clients of all appliances, `breakers` their breakers.
- `check` looks at one appliance before it is relied on; `examination` is what it looks at.
"""
