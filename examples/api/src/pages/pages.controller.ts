import { Body, Controller, Get, Param, Put, UseGuards } from '@nestjs/common';

import { AuthGuard, UserId } from '../auth/auth.guard.js';
import type { Page } from './page.entity.js';
import { type PageInput, PageSchema, SlugSchema } from './pages.schemas.js';
import { PagesService } from './pages.service.js';

@Controller('pages')
export class PagesController {
  constructor(private readonly pages: PagesService) {}

  @Get()
  @UseGuards(AuthGuard)
  list(@UserId() userId: number): Promise<Page[]> {
    return this.pages.list(userId);
  }

  @Get(':slug')
  read(@Param('slug') slug: string): Promise<Page> {
    return this.pages.read(slug);
  }

  @Put(':slug')
  @UseGuards(AuthGuard)
  save(
    @UserId() userId: number,
    @Param('slug', { schema: SlugSchema }) slug: string,
    @Body({ schema: PageSchema }) input: PageInput,
  ): Promise<Page> {
    return this.pages.save(userId, slug, input);
  }
}
