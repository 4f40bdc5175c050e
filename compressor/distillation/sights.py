"""What teachers see who are used to larger images than the student: their own reading of the same files."""

from collections.abc import Sequence

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.data.origin import Sight
from compressor.training.splitting import Split

#: Bytes of readings that may be held beside the student's; where there are more, they are read batch by batch.
LARGEST = 2**31


def sight_of(teacher: Candidate) -> Sight:
    """How the teacher is used to see images; the part of a picture that it sees is the student's."""
    return Sight(teacher.preprocessing.size, teacher.preprocessing.channels)


def seen_by(teachers: Sequence[Candidate], images: Split) -> Split:
    """The images, for those to see larger who are used to it, where the file that is learnt from has more to show.

    Teachers of one size share a reading. Those who are used to images as small or smaller are shown the student's.
    """
    wanted = [sight_of(teacher) for teacher in teachers if _is_used_to_larger(teacher, images.learn)]
    sights = [sight for sight in dict.fromkeys(wanted) if images.learn.has_more_for(sight)]
    return Split(images.learn.seen_in(sights), images.held_out and images.held_out.seen_in(sights))


def _is_used_to_larger(teacher: Candidate, images: Images) -> bool:
    pairs = zip(teacher.preprocessing.size, images.preprocessing.size, strict=True)
    return any(own > shown for own, shown in pairs)


def held(images: Images, context: Context) -> Images:
    """The images, with what teachers see of them read and held where there is room for it."""
    taken = images.bytes_when_held()
    if taken > LARGEST:
        context.notice(
            "teacher_images_not_held",
            f"The images in the sizes that teachers see take {taken / 2**30:.1f} GiB, and {LARGEST / 2**30:.0f} may be "
            "held: they are read anew for every batch.",
        )
        return images
    if taken:
        context.progress(0.0, "reading images for the teacher")
    return images.held()


def warn_of_enlarging(teachers: Sequence[Candidate], images: Images, context: Context) -> None:
    """Say where a teacher sees less than it is used to, because there is no more of the images."""
    larger = [teacher for teacher in teachers if _is_used_to_larger(teacher, images)]
    small = [teacher.preprocessing.size for teacher in larger if sight_of(teacher) not in images.sights]
    if small:
        context.notice("teacher_sees_enlarged", _nothing_more(small, images.preprocessing.size))
    for sight in images.sights:
        count = images.origin.smaller_than(sight.size) if images.origin else 0
        if count:
            context.notice("teacher_sees_enlarged", _too_small(sight.size, count, len(images)))


def _nothing_more(sizes: Sequence[tuple[int, int]], shown: tuple[int, int]) -> str:
    own = " and ".join(f"{height}x{width}" for height, width in sizes)
    return (
        f"A teacher that is used to {own} pixels is shown the student's images of {shown[0]}x{shown[1]}, enlarged: "
        "what it knows of finer things it cannot tell. Its accuracy in the report is that on such images."
    )


def _too_small(size: tuple[int, int], count: int, images: int) -> str:
    return (
        f"Of the {images:,} images, {count:,} have fewer pixels in their file than the {size[0]}x{size[1]} that a "
        "teacher is used to, and it is shown them enlarged: what it knows of finer things it cannot tell there."
    )
