# Makes the namespaces of a machine and becomes its init.
#
# First:   sh machine.sh outside NAME LAYER DIRECTORY RUNTIME INIT
# where LAYER has usr and etc that lie over this machine's own (empty: none), DIRECTORY is for files that last, RUNTIME is
# the program that becomes /opt/bulkrun, and INIT is own or systemd: whether containers are to meet the systemd of this
# machine, which knows processes and cgroups by its own namespaces. Writes the pid of init, as the outside sees it, to
# DIRECTORY/shared/pid.
set -eu
stage=$1 name=$2 layer=$3 directory=$4 runtime=$5 init=$6
shift

case $stage in
outside)
    # The cgroups are there; the namespace takes the ones that this process is in as its roots.
    while read -r cgroup; do
        # A process without threads joins through `tasks` at once; `cgroup.procs` waits for all processors.
        if [ -e "$cgroup/tasks" ]; then echo 0 >"$cgroup/tasks"; else echo 0 >"$cgroup/cgroup.procs"; fi
    done <"$directory/cgroups"
    if [ "$init" = own ]; then exec unshare --cgroup -- sh "$0" between "$@"; else exec sh "$0" between "$@"; fi
    ;;
between)
    # Only a cgroup of v2 without processes gives controllers to its children.
    while read -r cgroup; do
        if [ ! -e "$cgroup/tasks" ]; then mkdir "$cgroup/init" && echo 0 >"$cgroup/init/cgroup.procs"; fi
        # Engines look in their own cgroup for what the kernel can do.
        for controller in $([ "$init" = own ] || cat "$cgroup/cgroup.controllers"); do
            echo "+$controller" >"$cgroup/cgroup.subtree_control"
        done
    done <"$directory/cgroups"
    if [ "$init" = own ]; then pids=--pid; else pids=; fi
    exec unshare --mount --propagation private --net $pids --uts --ipc --fork --kill-child -- sh "$0" inside "$@"
    ;;
esac

# The old /proc still tells the pid that the outside sees.
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount --make-rshared /
grep ' - cgroup' /proc/self/mountinfo >"$directory/hierarchies"
# Nothing may be hidden below the new one: podman unmounts what it finds listed there.
umount -R --lazy /sys
mount -t sysfs sysfs /sys
grep -q ' /sys/fs/cgroup .* - cgroup2 ' "$directory/hierarchies" || mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r id parent device root point options; do
    set -- ${options##* - }
    mkdir -p "$point"
    if [ "$1" = cgroup2 ]; then
        mount -t cgroup2 cgroup2 "$point"
        # It is the whole hierarchy if that is systemd's.
        for controller in $([ "$init" = systemd ] || cat "$point/cgroup.controllers"); do
            echo "+$controller" >"$point/cgroup.subtree_control"
        done
    else
        mount -t cgroup -o "$(echo "$3" | tr , '\n' | grep -vxE 'rw|seclabel|xattr|clone_children' | paste -sd ,)" \
            cgroup "$point"
        for controller in $(basename "$point" | tr , ' '); do
            [ -e "/sys/fs/cgroup/$controller" ] || ln -s "$point" "/sys/fs/cgroup/$controller"
        done
    fi
done <"$directory/hierarchies"

mkdir "$directory/etc" "$directory/work" "$directory/lib" "$directory/lib/tmp" "$directory/shared"
if [ -n "$layer" ]; then
    mount -t overlay -o "lowerdir=$layer/usr:/usr" overlay /usr
    lower=$layer/etc:
fi
mount -t overlay -o "lowerdir=${lower-}/etc,upperdir=$directory/etc,workdir=$directory/work" overlay /etc
mkdir "$directory/run"
mount -t tmpfs -o mode=755 tmpfs "$directory/run"
if [ "$init" = systemd ]; then
    for place in systemd dbus user; do
        mkdir "$directory/run/$place"
        mount --rbind "/run/$place" "$directory/run/$place"
    done
fi
mount --rbind "$directory/run" /run
mkdir -p /run/shared /run/user /run/lock
mount --bind "$directory/shared" /run/shared
mount --bind "$directory/lib" /var/lib
mount --bind "$directory/lib/tmp" /var/tmp
chmod 1777 /var/tmp
mount -t tmpfs -o mode=755 tmpfs /opt
cp "$runtime" /opt/bulkrun
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
hostname "$name"
# The directory and the layer may lie below these.
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=700 tmpfs /root
echo "$pid" >/run/shared/pid.unfinished
mv /run/shared/pid.unfinished /run/shared/pid
exec tini -- sleep infinity
