"""Write small files of ratings."""

import numpy as np

HEADER = "userId,movieId,rating,timestamp\n"
MOVIES = (
    "movieId,title,genres\n"
    '1,"Laugh, The (1999)",Comedy\n'
    "2,Weep <b>(2000)</b>,Drama\n"
    "3,Both,Comedy|Drama\n"
    "4,Neither,(no genres listed)\n"
)


def write_ratings(folder, ratings, movies=MOVIES):
    """Write the two files, and return them as the flags of the job."""
    (folder / "ratings.csv").write_text(HEADER + ratings)
    (folder / "movies.csv").write_text(movies)
    return {"ratings": str(folder / "ratings.csv"), "movies": str(folder / "movies.csv")}


def write_two_tastes(folder, users=60, films=40):
    """Write ratings of users with even ids, who like comedies, and odd ids, who like dramas."""
    draw = np.random.default_rng(0)
    movies = "movieId,title,genres\n" + "".join(
        f"{film},Film {film},{('Comedy', 'Drama')[film % 2]}\n" for film in range(1, films + 1)
    )
    lines = []
    for user in range(1, users + 1):
        for film in range(1, films + 1):
            if draw.random() < 2 / 3:
                stars = draw.choice([4.0, 4.5, 5.0] if user % 2 == film % 2 else [1.0, 2.0, 3.0])
                lines.append(f"{user},{film},{stars},0\n")
    return write_ratings(folder, "".join(lines), movies)
