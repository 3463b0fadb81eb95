"""Speaks HTTP to our callers.

- One file of calls for each resource: `appliances`, `pairings`, `batches`, `audit`, `health`;
  `routes` says which serves what, `parts` what they are given.
- A request: `middleware` is around every one, `auth` knows who asks. `bodies` and `strictjson` read
  it, `validation` judges it by `contract`, which is `openapi.yaml`, and `requests`,
  `bulkrequests` and `items` make values of it. `uploads` keeps large bodies, `paging` reads
  cursors, `urls` judges URLs.
- A response: `responses` from values, `piecewise` one that is too long to be held, `streaming` for
  as long as somebody listens, `waiting` until something happens. `faults` and `refusals` say what
  is wrong, `problems` what that is in HTTP.
- `serving` runs it all on aiohttp's server.
"""
