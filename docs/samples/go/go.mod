module example.com/ocpclient

go 1.20
