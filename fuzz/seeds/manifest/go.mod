module example.com/x

go 1.22

require (
	a.com/b v1.0.0 // indirect
)
replace a.com/b => ../b
require c.com/d/v2 v2.0.0

====
module example.com/x

go 1.22

require (
	a.com/b v1.1.0 // indirect
)
replace a.com/b => ../b
require c.com/d/v2 v2.0.0
