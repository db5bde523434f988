# shellcheck shell=sh disable=SC2034,SC2154
# What the three snapshot hooks have in common: their words, where they may mount, undoing, and taking down.
#
# A hook sets `volume`, reads the rest of its words, and defines
#   look     sets `exists` to yes or no; dies if what bears our snapshot's name is not ours
#   is_ours  whether `found`, mounted at the mount point, is our snapshot; after look
#   create   makes the snapshot, with our mark on it
#   attach   mounts it, read-only
#   discard  removes it; never called unless look has found it to be ours
#   sound    dies if the snapshot has not lasted
# and then calls `run`. Nothing is ever removed but a snapshot that bears our name and mark, and nothing
# unmounted but such a snapshot.

LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH
umask 077

hook=${0##*/}
safe_options=ro,nosuid,nodev,noexec

say() {
	printf '%s: %s\n' "$hook" "$1" >&2
}

die() {
	say "$1"
	exit 1
}

need() {
	for program in findmnt mount umount "$@"; do
		command -v "$program" >/dev/null || die "$program is not installed"
	done
}

# $1: how many words there may be; then VERB VOLUME MOUNT_POINT ... No more of them: sudo may let a pattern through.
read_words() {
	[ "$(($# - 1))" -le "$1" ] || die "there are more than $1 words"
	shift
	case ${1-} in
	before | after | finally) verb=$1 ;;
	*) die "the first word is before, after or finally" ;;
	esac
	volume=${2-}
	mount_point=${3-}
	[ -n "$volume" ] || die "$verb needs a volume"
	[ -n "$mount_point" ] || die "$verb needs a mount point"
	job=${NIGHTVAULT_JOB-}
	case $job in
	'' | *[!A-Za-z0-9_.-]*) die "NIGHTVAULT_JOB must be the name of a job; nightvault sets it" ;;
	esac
	refuse_odd_path "$mount_point"
}

refuse_odd_path() {
	case $1 in
	*'
'*) die "a path must not hold a line break" ;;
	/*) ;;
	*) die "$1 must be an absolute path" ;;
	esac
}

# Nobody else may be able to put another directory, or a symlink, in the place of $1.
refuse_unsafe() {
	refuse_odd_path "$1"
	real=$(cd -P -- "$1" && pwd -P) || die "$1 is no directory that can be entered"
	[ "$real" = "$1" ] || die "$1 is $real: name that, without symlinks"
	at=$1
	while :; do
		right=$(find "$at" -prune \( -user 0 -o -user "$(id -u)" \) \
			\( ! -perm -020 ! -perm -002 -o -perm -1000 \) -print)
		[ -n "$right" ] || die "$at belongs to, or can be changed by, others: nothing is mounted below it"
		[ "$at" != / ] || break
		at=$(dirname -- "$at")
	done
}

# Sets `found` to what is mounted at the mount point; to nothing if it is no mount point.
find_mount() {
	code=0
	found=$(findmnt -n -o SOURCE -M "$mount_point") || code=$?
	[ "$code" -le 1 ] || die "findmnt failed on $mount_point"
}

# Something may still be looking for a moment.
patiently() {
	for pause in 1 1 2 4; do
		if "$@"; then return 0; fi
		sleep "$pause"
	done
	"$@"
}

# Only functions that end by themselves (die) are called here: `set -e` does not hold below `||`.
take_down() {
	if [ -d "${mount_point%/*}/" ]; then refuse_unsafe "$(dirname -- "$mount_point")"; fi
	look
	find_mount
	if [ -n "$found" ] && is_ours; then
		patiently umount "$mount_point" || die "$mount_point stays mounted; the next run tries again"
	fi
	[ "$exists" = yes ] || return 0
	patiently discard || die "the snapshot $snapshot stays; the next run tries again"
}

refuse_taken() {
	find_mount
	[ -z "$found" ] || die "$found is mounted at $mount_point already"
	mkdir -p -- "$mount_point"
	refuse_unsafe "$mount_point"
	[ -z "$(ls -Aq -- "$mount_point")" ] || die "$mount_point is not empty"
}

undo() {
	trap - EXIT
	trap '' HUP INT TERM
	say "taking down what was begun"
	(take_down) || say "nightvault runs 'finally' in the end, and 'before' next time: they try again"
	exit "$1"
}

bring_up() {
	trap 'undo $?' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	create || die "no snapshot of $volume could be made"
	look
	attach || die "the snapshot $snapshot could not be mounted at $mount_point"
	refuse_lost
	trap - EXIT HUP INT TERM
}

refuse_lost() {
	[ "$exists" = yes ] || die "the snapshot $snapshot is gone"
	find_mount
	if [ -n "$found" ] && is_ours; then return 0; fi
	die "$mount_point does not show the snapshot $snapshot"
}

run() {
	case $verb in
	before)
		take_down
		refuse_taken
		bring_up
		;;
	after)
		look
		refuse_lost
		sound
		;;
	finally) take_down ;;
	esac
}
