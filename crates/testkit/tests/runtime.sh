#!/bin/sh
# A runtime for tests of the sandbox. Its containers are processes of the host that run the bundle's script; each
# has a directory in the state directory while it exists.
root=$2 verb=$3
shift 3
case $verb in
run)
    mkdir "$root/$3" || exit
    sh -c "$(cat "$2/script")"
    code=$?
    rmdir "$root/$3"
    exit $code
    ;;
create)
    mkdir "$root/$3" || exit
    setsid sh -c "$(cat "$2/script")" &
    echo $! >"$root/$3/pid"
    ;;
start) ;;
state) printf '{"pid": %s, "status": "running"}' "$(cat "$root/$1/pid")" ;;
kill) kill -"$2" "$(cat "$root/$1/pid")" ;;
exec)
    shift
    exec "$@"
    ;;
delete)
    [ "$1" = --force ] && shift
    kill -9 "$(cat "$root/$1/pid")" 2>/dev/null
    rm -r "${root:?}/$1"
    ;;
esac
