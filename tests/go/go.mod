module gordian.example/fixtures

go 1.22
