#!/bin/bash
# redis.sh <work directory>: a Redis in the container, set up as docs/deploy.md says: TLS with a certificate of our own, the ACL file,
# passwords `secret` (hostevac) and `op` (operator).
set -e
deploy=/opt/hostevac/docs/deploy
mkdir -p /etc/hostevac /etc/redis /run/redis "$1/redis"
cd /etc/redis
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out redis-ca.crt
openssl req -newkey rsa:2048 -nodes -subj /CN=redis.example.org -keyout redis.key -out redis.csr
printf 'subjectAltName=DNS:redis.example.org\n' >san
openssl x509 -req -in redis.csr -CA redis-ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out redis.crt
hash() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
sed "s/^user hostevac off/user hostevac on #$(hash secret)/; s/^user operator off/user operator on #$(hash op)/" "$deploy/redis/users.acl" >users.acl
cp "$deploy/redis/hostevac.conf" .
printf 'include /etc/redis/hostevac.conf\ndir %s/redis\n' "$1" >redis.conf
echo '127.0.0.1 redis.example.org' >>/etc/hosts
install -m 644 redis-ca.crt /etc/hostevac/
sed 's/PASSWORD/secret/' "$deploy/hostevac.env" | install -m 600 /dev/stdin /etc/hostevac/hostevac.env
sed 's/=.*/=lab-a,lab-b/' "$deploy/worker-qemu.env" | install -m 644 /dev/stdin /etc/hostevac/worker-qemu.env
systemd-run --quiet --unit redis-test redis-server /etc/redis/redis.conf
