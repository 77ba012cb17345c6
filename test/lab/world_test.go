package lab

import "sync"

// members are the identities of all tests here.
var members = sync.OnceValue(NewMembers)
